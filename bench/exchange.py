"""What a message costs without HTTP, broker and database: sealed, opened, receipted, in one process.

The counterpart of an AS2 message with its MDN.
"""

from __future__ import annotations

import time
from uuid import uuid4

from bench.nodes import RECIPIENT, SENDER
from gateway.crypto import proof
from gateway.crypto.envelope import open_envelope, seal
from gateway.crypto.keys import OpeningKey, SigningKey
from gateway.messages import CaseId, EnvelopeId, Header, MessageId, Receipt, Stage

DAY = 86_400_000
"""Milliseconds."""


def exchanges(body: bytes, seconds: float = 3.0) -> tuple[float, float]:
    """Exchanges a second, and CPU seconds for each."""
    signing, answering, opening = SigningKey.generate(), SigningKey.generate(), OpeningKey.generate()
    public = {SENDER: signing.public, RECIPIENT: answering.public}
    count, cpu, started = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - started < seconds:
        now = int(time.time() * 1000)
        header = Header(
            MessageId(str(uuid4())),
            EnvelopeId(str(uuid4())),
            "referral",
            1,
            SENDER,
            RECIPIENT,
            CaseId(str(uuid4())),
            None,
            now,
            now + DAY,
            "health-care",
            "public-task",
        )
        sealed = seal(header, body, signer=signing, to=opening.public)
        opened = open_envelope(
            sealed,
            recipient=RECIPIENT,
            keys={opening.kid: opening},
            find_verify_key=lambda agency, _: public.get(agency),
        )
        if opened.content.reveal() != body:
            raise SystemExit("another content came out")
        for stage in (Stage.RECEIVED, Stage.DELIVERED):
            receipt = Receipt(
                stage, header.message_id, header.envelope_id, opened.digest, SENDER, RECIPIENT, RECIPIENT, now
            )
            proof.verify_receipt(proof.sign_receipt(receipt, answering), lambda agency, _: public.get(agency))
        count += 1
    return count / (time.perf_counter() - started), (time.process_time() - cpu) / count
