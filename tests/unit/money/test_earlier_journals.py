"""Bytes of journals that earlier versions wrote: whatever becomes of the form, these are read, with nothing lost."""

import pytest

from trollproxy.chat import Usage
from trollproxy.money.entries import Entry, Settled, decode
from trollproxy.money.segments import frame, seed_of, take
from trollproxy.records import Charge, Intent, Price, Progress

INTENT = """
    de0012a474797065a6696e74656e74aa726571756573745f6964a57265715f31a8757365726e616d65a3616e6ea66b65795f6964a16bad66
    7269656e645f6b65795f6964a2666ba677616c6c6574a36e6577a6666f726d6174a9616e7468726f706963a56d6f64656ca16dae75707374
    7265616d5f6d6f64656ca2756da870726f7669646572a461636d65a673747265616dc3a5707269636583a776657273696f6ea27031ad7065
    725f6d746f6b5f6e75736482a8756e63616368656403a86f75745f746578740fb06d756c7469706c6965725f6d6963726fce00100590ae75
    7073747265616d5f7072696365c0ab696e7075745f6279746573cd0fa0a9686f6c645f6e757364ce00989680a3646179aa323032362d3031
    2d3031ac737461727465645f61745f73cb41da556e40100000ae6c6f73745f636f73745f6e75736407
"""
PROGRESS = """
    85a474797065a870726f6772657373aa726571756573745f6964a57265715f31a5757361676581a8756e63616368656405ae69735f757361
    67655f66696e616cc2ac6f75747075745f627974657328
"""
SETTLED = """
    82a474797065a7736574746c6564a6636861726765de001aaa726571756573745f6964a57265715f31a373657103a8757365726e616d65a3
    616e6ea66b65795f6964a16bad667269656e645f6b65795f6964a2666ba677616c6c6574a36e6577a6666f726d6174a9616e7468726f7069
    63a56d6f64656ca16dae757073747265616d5f6d6f64656ca2756da870726f7669646572a461636d65af757073747265616d5f6b65795f69
    64a2756ba673747265616dc3a6737461747573ccc8a4636f6465a26f6ba8656e6465645f6279a9636f6d706c65746564a5757361676582a8
    756e636163686564cd03e8a86f75745f74657874ccc8ac69735f657374696d61746564c2ad70726963655f76657273696f6ea27031b06d75
    6c7469706c6965725f6d6963726fce00100590a9636f73745f6e75736406b2757073747265616d5f636f73745f6e757364c0ae6c6f73745f
    636f73745f6e75736407a3646179aa323032362d30312d3031ac737461727465645f61745f73cb41da556e40100000ae66697273745f746f
    6b656e5f6d73cb4029000000000000ab6475726174696f6e5f6d73cb408c200000000000
"""
RECORD = "0000000755a3d6e700000000000000077061796c6f6164"


@pytest.mark.parametrize(
    ("written", "entry"),
    [
        (
            INTENT,
            Intent(
                request_id="req_1",
                username="ann",
                key_id="k",
                friend_key_id="fk",
                wallet="new",
                format="anthropic",
                model="m",
                upstream_model="um",
                provider="acme",
                stream=True,
                price=Price(version="p1", per_mtok_nusd={"uncached": 3, "out_text": 15}, multiplier_micro=1_050_000),
                upstream_price=None,
                input_bytes=4000,
                hold_nusd=10**7,
                day="2026-01-01",
                started_at_s=1_767_225_600.25,
                lost_cost_nusd=7,
            ),
        ),
        (PROGRESS, Progress(request_id="req_1", usage=Usage(uncached=5), is_usage_final=False, output_bytes=40)),
        (
            SETTLED,
            Settled(
                Charge(
                    request_id="req_1",
                    seq=3,
                    username="ann",
                    key_id="k",
                    friend_key_id="fk",
                    wallet="new",
                    format="anthropic",
                    model="m",
                    upstream_model="um",
                    provider="acme",
                    upstream_key_id="uk",
                    stream=True,
                    status=200,
                    ended_by="completed",
                    usage=Usage(uncached=1000, out_text=200),
                    price_version="p1",
                    multiplier_micro=1_050_000,
                    cost_nusd=6,
                    lost_cost_nusd=7,
                    day="2026-01-01",
                    started_at_s=1_767_225_600.25,
                    first_token_ms=12.5,
                    duration_ms=900.0,
                )
            ),
        ),
    ],
    ids=["intent", "progress", "charge"],
)
def test_an_entry_of_an_earlier_version_is_read(written: str, entry: Entry) -> None:
    assert decode(bytes.fromhex(written)) == entry


def test_a_record_of_an_earlier_version_is_found_intact() -> None:
    record, seed = bytes.fromhex(RECORD), seed_of(b"12345678")
    assert take(record, 0, seed=seed, max_records=1, max_bytes=100) == ([(7, b"payload")], len(record))
    assert frame(7, b"payload", seed) == record
