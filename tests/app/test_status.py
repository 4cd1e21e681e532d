"""What `feilun status` says of late events and of skew."""

from feilun.cli.run import _show_status

PLATFORM = {
    "models": {},
    "flywheels": {},
    "log_end": 10,
    "lag": 0,
    "problems": [],
    "events": {"click": {"records": 9, "late": 2}, "view": {"records": 1, "late": 0}},
    "skew": {},
}


def said(capsys, **changes):
    _show_status("http://127.0.0.1:1", {}, PLATFORM | changes)
    return capsys.readouterr().out


def skew(mismatched, requests=5):
    found = {"user:orders": {"audited": 50, "mismatched": mismatched}}
    return {"ranker": {"requests": requests, "left_out": {}, "features": found}}


def test_late_events_are_said_of_what_has_some(capsys):
    text = said(capsys)
    assert "2 late click events" in text
    assert "view" not in text


def test_skew_is_said_with_its_feature(capsys):
    assert "ranker: no skew in 5 audited requests." in said(capsys, skew=skew(0))
    text = said(capsys, skew=skew(3))
    assert "ranker: skew: user:orders was served otherwise" in text
    assert "in 3 of 50 rows" in text
    assert "ranker" not in said(capsys, skew=skew(0, requests=0))
