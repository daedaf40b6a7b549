"""exchange.py A B: exchanges two names again and again (renameat2(2), RENAME_EXCHANGE)."""
import ctypes
import sys

libc = ctypes.CDLL(None, use_errno=True)
one, other = (path.encode() for path in sys.argv[1:])
while True:
    libc.renameat2(-100, one, -100, other, 2)
