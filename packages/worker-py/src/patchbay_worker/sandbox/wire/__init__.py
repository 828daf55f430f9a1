"""What both sides of the sandbox agree on: messages, tensor types, the division of the arena, safe text."""
