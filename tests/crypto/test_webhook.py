"""Webhook signatures, against the reference implementation of Standard Webhooks and its published vector."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.crypto import webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def test_the_published_vector() -> None:
    signature = webhook.sign(
        [webhook.read_secret(SECRET)], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.text(max_size=200))
def test_either_secret_verifies_while_one_replaces_the_other(text: str) -> None:
    payload, now = text.encode(), int(time.time())
    secrets = [webhook.read_secret(one) for one in (SECRET, OTHER)]
    headers = {"webhook-id": "x", "webhook-timestamp": str(now)}
    headers["webhook-signature"] = webhook.sign(secrets, "x", now, payload)
    for one in (SECRET, OTHER):
        Webhook(one).verify(payload, headers, json_parse=False)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(payload + b"!", headers, json_parse=False)


@pytest.mark.parametrize("bad", ["", "whsec_", SECRET.removeprefix("whsec_"), "whsec_c2hvcnQ=", SECRET + "!"])
def test_a_bad_secret_is_refused_and_not_quoted(bad: str) -> None:
    with pytest.raises(ValueError, match="a webhook secret is") as refused:
        webhook.read_secret(bad)
    assert "MfKQ" not in str(refused.value)
