/** Attacks as a user submits them: one or more of each class, with what must come of it. Not here: running them. @module */
import type { ErrorCode } from '@patchbay/protocol';

/** What a test needs to know of the place that is attacked. */
export interface Target {
  /** A TCP port of this host that counts connections. */
  readonly port: number;
  /** A process that must live on. */
  readonly pid: number;
  /** A file that all may read. */
  readonly file: string;
}

export interface Attack {
  readonly name: string;
  /** Body of an editing function, one statement a line. */
  readonly body: (target: Target) => string;
  /** What may come of it: an error, or `completed` where the attack is only to be without effect. */
  readonly ends: readonly (ErrorCode | 'completed')[];
  /** Line of the body, from 1, that the error names. */
  readonly line?: number;
}

const BLOCKED = ['PB_EDIT_BLOCKED', 'PB_EDIT_FAILED'] as const;

/** Python that leaves in `save_ctx.said` what an expression gives, or the name of its error. */
const attempt = (expression: string): string =>
  ['import ctypes, os, socket', 'try:', `    save_ctx.said = repr(${expression})`].join('\n') +
  '\nexcept BaseException as problem:\n    save_ctx.said = type(problem).__name__\nreturn inputs';

/** Without any error: what `save_ctx.said` holds must be the name of one. */
export const PROBES: Readonly<Record<string, (target: Target) => string>> = {
  'network: TCP to this host': ({ port }) => attempt(`socket.create_connection(("127.0.0.1", ${port}), timeout=2)`),
  'network: UDP': ({ port }) => attempt(`socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", ${port}))`),
  'files: one that all may read': ({ file }) => attempt(`open("${file}").read()`),
  'files: the password file': () => attempt('open("/etc/passwd").read()'),
  'files: a handle that reads nothing': ({ file }) => attempt(`os.open("${file}", os.O_PATH)`),
  'files: writing': () => attempt('open("/tmp/written", "w")'),
  'files: by torch': ({ file }) => attempt(`torch.from_file("${file}", size=4, dtype=torch.uint8).tolist()`),
  'secrets: environment of its parent': () => attempt('open(f"/proc/{os.getppid()}/environ").read()'),
  'processes: memory of another': ({ pid }) => attempt(`open("/proc/${pid}/mem", "rb").read(1)`),
  'processes: the clock of another': ({ pid }) => attempt(`__import__("time").clock_gettime(~${pid} << 3 | 2)`),
  'processes: a signal': ({ pid }) => attempt(`os.kill(${pid}, 9)`),
  'processes: every one': () => attempt('os.kill(-1, 9)'),
  'processes: fork': () => attempt('os.fork()'),
  'processes: a shell': () => attempt('__import__("subprocess").check_output(["id"])'),
  'memory: a file without a name': () => attempt('os.memfd_create("x")'),
  'limits: more of them': () => attempt('__import__("resource").setrlimit(7, (4096, 4096))'),
};

export const ATTACKS: readonly Attack[] = [
  { name: 'network: a socket', body: () => 'import socket\nsocket.socket()', ends: BLOCKED, line: 2 },
  { name: 'files: a read', body: () => 'x = 1\nopen("/etc/passwd")', ends: BLOCKED, line: 2 },
  {
    name: 'system calls: a namespace',
    body: () => 'import ctypes\nctypes.CDLL(None).unshare(0x10000000)',
    ends: ['PB_EDIT_BLOCKED'],
  },
  {
    name: 'system calls: io_uring',
    body: () => 'import ctypes\nctypes.CDLL(None).syscall(425, 8, 0)',
    ends: ['PB_EDIT_BLOCKED'],
  },
  { name: 'memory: a tensor of 20 GB', body: () => 'torch.empty(5_000_000_000)', ends: ['PB_EDIT_MEMORY'], line: 1 },
  {
    name: 'memory: a list without end',
    body: () => 'x = []\nwhile True: x.append(bytearray(1 << 25))',
    ends: ['PB_EDIT_MEMORY'],
    line: 2,
  },
  { name: 'time: a loop', body: () => 'while True: pass', ends: ['PB_EDIT_TIMEOUT'], line: 1 },
  {
    name: 'time: a loop that takes every signal',
    body: () => 'import signal\nfor n in (1, 2, 3, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: pass',
    ends: ['PB_EDIT_TIMEOUT'],
  },
  {
    name: 'time: it stops itself',
    body: () => 'import os\nos.kill(os.getpid(), 19)',
    ends: ['PB_EDIT_TIMEOUT', 'PB_EDIT_RETURNED_NONE'],
  },
  {
    name: 'life: a trace that never ends',
    body: () => 'import sys\ndef spin(*_):\n    while True: pass\nsys.settrace(spin)\nreturn inputs',
    ends: ['PB_EDIT_TIMEOUT'],
  },
  { name: 'life: a fault of memory', body: () => 'import ctypes\nctypes.string_at(0)', ends: ['PB_EDIT_CRASHED'] },
  { name: 'life: an exit', body: () => 'import os\nos._exit(0)', ends: ['PB_EDIT_CRASHED'] },
  { name: 'life: a real-time signal', body: () => 'import os\nos.kill(os.getpid(), 40)', ends: ['PB_EDIT_CRASHED'] },
  {
    name: 'protocol: an empty packet',
    body: () => 'import os\nos.write(3, b"")\nwhile True: pass',
    ends: ['PB_EDIT_CRASHED'],
  },
  {
    name: 'protocol: a reply of its own',
    body: () => 'import os\nos.write(3, b"PBS1" + b"A" * 100)\nwhile True: pass',
    ends: ['PB_EDIT_CRASHED'],
  },
  {
    name: 'protocol: closed descriptors',
    body: () => 'import os\nos.closerange(0, 64)\nreturn inputs',
    ends: ['PB_EDIT_CRASHED'],
  },
  {
    name: 'objects: an exception that cannot be shown',
    body: () => 'class E(Exception): pass\nE.__module__ = type("X", (), {"__str__": lambda s: 1 / 0})()\nraise E',
    ends: ['PB_EDIT_FAILED'],
    line: 3,
  },
  {
    name: 'objects: escapes and HTML in an error',
    body: () => 'raise ValueError("\\x1b[2J<script>alert(1)</script>" + "x" * 10_000_000)',
    ends: ['PB_EDIT_FAILED'],
    line: 1,
  },
  { name: 'tensors: another shape', body: () => 'return inputs[:, :1]', ends: ['PB_EDIT_SHAPE'] },
  {
    name: 'tensors: a hundred dims',
    body: () => 'return inputs.reshape((1,) * 100 + tuple(inputs.shape))',
    ends: ['PB_EDIT_SHAPE'],
  },
  { name: 'tensors: one without numbers', body: () => 'return inputs.to("meta")', ends: ['PB_EDIT_RETURNED_NONE'] },
  {
    name: 'tensors: a class that lies',
    body: () =>
      'class T(torch.Tensor):\n    @classmethod\n    def __torch_function__(cls, *a, **k): return 7\nreturn inputs.as_subclass(T)',
    ends: ['PB_EDIT_FAILED', 'PB_EDIT_RETURNED_NONE'],
  },
  { name: 'tensors: NaN', body: () => 'return inputs * float("nan")', ends: ['completed'] },
  {
    name: 'logs: without end',
    body: () => 'import os\nwhile True: os.write(1, b"x" * 65536)',
    ends: ['PB_EDIT_FAILED', 'PB_EDIT_CRASHED'],
  },
  { name: 'logs: fifty megabytes', body: () => 'print("x" * 50_000_000)\nreturn inputs', ends: ['completed'] },
  {
    name: 'values: a hoard',
    body: () => 'save_ctx.x = [torch.zeros(1)] * 100_000\nreturn inputs',
    ends: ['completed'],
  },
  {
    name: 'values: names of JavaScript',
    body: () =>
      'save_ctx["__proto__"] = {"polluted": 1}\nsave_ctx["constructor"] = 1\nsave_ctx["toString"] = 1\nreturn inputs',
    ends: ['completed'],
  },
];
