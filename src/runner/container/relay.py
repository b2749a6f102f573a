# Listens at the first places and connects each caller to the last: unix:PATH or tcp:HOST:PORT.
import os, selectors, signal, socket, sys, threading

def place(text):
    if text.startswith("unix:"):
        return socket.AF_UNIX, text[5:]
    host, port = text[4:].rsplit(":", 1)
    return socket.AF_INET, (host, int(port))

def copy(source, sink):
    try:
        while True:
            piece = source.recv(65536)
            if not piece:
                break
            sink.sendall(piece)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

def serve(near):
    far = socket.socket(to[0], socket.SOCK_STREAM)
    try:
        far.connect(to[1])
        back = threading.Thread(target=copy, args=(far, near), daemon=True)
        back.start()
        copy(near, far)
        back.join()
    except OSError:
        pass
    finally:
        near.close()
        far.close()

signal.signal(signal.SIGHUP, signal.SIG_IGN)
places = [place(text) for text in sys.argv[1:]]
to = places.pop()
listening = selectors.DefaultSelector()
for kind, address in places:
    if kind == socket.AF_UNIX and os.path.exists(address):
        os.unlink(address)
    server = socket.socket(kind, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(address)
    server.listen(128)
    if kind == socket.AF_UNIX:
        os.chmod(address, 0o666)
    listening.register(server, selectors.EVENT_READ)
# The job is over when its directory is gone.
kept = os.environ.get("RELAY_WHILE")
while not kept or os.path.exists(kept):
    for key, _ in listening.select(30):
        try:
            near, _ = key.fileobj.accept()
        except OSError:
            continue
        threading.Thread(target=serve, args=(near,), daemon=True).start()
