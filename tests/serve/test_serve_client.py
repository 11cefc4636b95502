"""The client, where what answers does not keep to HTTP."""

import socket
import threading

import pytest

from dejavlad.client import Client, ServiceError


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found"])
def test_an_answer_that_breaks_off_is_no_answer(status: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: 400\r\n\r\n"
                connection.sendall(head.encode() + b'{"maps": []}')

        thread = threading.Thread(target=answer)
        thread.start()
        with (
            Client(f"http://127.0.0.1:{listener.getsockname()[1]}") as client,
            pytest.raises(ServiceError, match="broke off") as caught,
        ):
            client.maps()
        thread.join()
    assert caught.value.status == 0
