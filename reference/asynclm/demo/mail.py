"""A real SMTP server on a loopback port that keeps the mail it is given, and a client for it."""

from __future__ import annotations

import asyncio
import smtplib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import formatdate, getaddresses, make_msgid

from aiosmtpd.smtp import SMTP, Envelope, Session

MAX_MESSAGE_BYTES = 1 << 20


@dataclass(frozen=True)
class DeliveredMail:
    """A mail as the server received it.

    Attributes:
        sender: the envelope's sender.
        recipients: the envelope's recipients, those in copy included.
        message: the message itself.
    """

    sender: str
    recipients: tuple[str, ...]
    message: EmailMessage

    @property
    def to(self) -> tuple[str, ...]:
        """The addresses in `To`."""
        return self._addresses("To")

    @property
    def cc(self) -> tuple[str, ...]:
        """The addresses in `Cc`."""
        return self._addresses("Cc")

    @property
    def subject(self) -> str:
        """The subject, decoded."""
        return str(self.message["Subject"] or "")

    @property
    def body(self) -> str:
        """The plain text, with line ends as Python has them."""
        part = self.message.get_body(("plain",))
        return "" if part is None else str(part.get_content()).replace("\r\n", "\n")

    def _addresses(self, header: str) -> tuple[str, ...]:
        return tuple(address for _, address in getaddresses([str(v) for v in self.message.get_all(header, [])]))


class MailServer:
    """An SMTP server with a thread of its own; a context manager. Listens on a free port of 127.0.0.1."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._mail: list[DeliveredMail] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asynclm-demo-smtp", daemon=True)
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port: int = self._server.sockets[0].getsockname()[1]

    @property
    def delivered(self) -> tuple[DeliveredMail, ...]:
        """Every mail delivered so far, oldest first."""
        with self._lock:
            return tuple(self._mail)

    def clear(self) -> None:
        """Forgets the mail."""
        with self._lock:
            self._mail.clear()

    def close(self) -> None:
        """Stops listening. Closing twice is harmless."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802  (aiosmtpd)
        """Keeps a mail; called by the protocol once its last line is in."""
        content = envelope.content or b""
        data = content.encode() if isinstance(content, str) else content
        message = message_from_bytes(data, policy=policy.SMTPUTF8)
        with self._lock:
            self._mail.append(DeliveredMail(envelope.mail_from or "", tuple(envelope.rcpt_tos), message))
        return "250 OK: kept"

    def __enter__(self) -> MailServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def _listen(self) -> asyncio.Server:
        return await self._loop.create_server(self._protocol, self.host, 0)

    def _protocol(self) -> SMTP:
        return SMTP(
            self, data_size_limit=MAX_MESSAGE_BYTES, enable_SMTPUTF8=True, hostname="asynclm.example", loop=self._loop
        )

    async def _stop(self) -> None:
        self._server.close()
        await self._server.wait_closed()
        remaining = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)


def send(host: str, port: int, *, sender: str, to: Sequence[str], cc: Sequence[str], subject: str, body: str) -> str:
    """Sends a mail by SMTP; blocks until the server has it.

    Returns:
        Its Message-ID.

    Raises:
        ValueError: a header has a line break.
        smtplib.SMTPException: the server refused it.
        OSError: the server cannot be reached.
    """
    message = EmailMessage()
    message["From"] = sender
    message["To"] = ", ".join(to)
    if cc:
        message["Cc"] = ", ".join(cc)
    message["Subject"] = subject
    message["Date"] = formatdate(localtime=False)
    message["Message-ID"] = make_msgid(domain="asynclm.example")
    message.set_content(body)
    with smtplib.SMTP(host, port, timeout=30) as client:
        # Not send_message: it writes lines that begin with "From " as mailbox files do, with a ">" in front.
        client.sendmail(sender, [*to, *cc], message.as_bytes(policy=policy.SMTP))
    return str(message["Message-ID"])
