"""The cluster's front door: a gRPC server that is a Ray driver and holds nothing durable. Imports no torch.
Not here: jobs (they go to the supervisors), queues.
"""
