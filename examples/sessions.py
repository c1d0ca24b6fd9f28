"""Log-in sessions that end after a while without a visit, and survive a restart of the service.

    python examples/sessions.py

The key is a token that only the visitor knows, the value is the user it stands for.
"""

import secrets
import tempfile
import time

import kvmap

IDLE = 2  # seconds without a visit, after which a session ends


def log_in(sessions: kvmap.KVMap[str, str], user: str) -> str:
    token = secrets.token_urlsafe(12)
    sessions.create(token, user)  # raises where the token is in use
    return token


def visit(sessions: kvmap.KVMap[str, str], token: str) -> str | None:
    """The user whose session this is, and IDLE more seconds for them; None if it has ended."""
    try:
        sessions.expire(token, IDLE)
        return sessions[token]
    except KeyError:  # no `in` first: a session can end between two lines
        return None


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        # A token is as good as a password: only the owner may read the directory.
        with kvmap.open(f"{directory}/sessions", ttl=IDLE) as sessions:
            ada, bob = log_in(sessions, "ada"), log_in(sessions, "bob")
            print(f"logged in: {', '.join(sessions.values())}")

            began = time.monotonic()
            while bob in sessions:  # `in` is no visit
                visit(sessions, ada)
                time.sleep(0.1)
            print(f"bob was idle for {time.monotonic() - began:.1f} s, ada was not")
            print(f"logged in: {', '.join(sessions.values())}")
            print(f"bob's token is good for: {visit(sessions, bob)}")

        with kvmap.open(f"{directory}/sessions", ttl=IDLE) as sessions:
            print("the service was restarted")
            print(f"ada's token is good for: {visit(sessions, ada)}")
            del sessions[ada]
            print(f"ada logs out; sessions left: {len(sessions)}")


if __name__ == "__main__":
    main()
