"""What others wrote does nothing to a terminal and gives no password away."""

import io

import pytest

from fra_dist.foreign_text import PlainOutput, plain, without_logins


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("photo.jpg\n\ttwo", "photo.jpg\n\ttwo"),
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
        ("\x1b[2J\x1b[1A", "\\u001b[2J\\u001b[1A"),
        ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
        ("\r 12% done", "\r 12% done"),
        ("name\rfra-dist: all is well", "name\\u000dfra-dist: all is well"),
        ("\x9b2J", "\\u009b2J"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("Müller 王 😀", "Müller 王 😀"),
    ],
)
def test_control_characters_are_written_out(text, shown):
    assert plain(text) == shown
    out = io.StringIO()
    assert PlainOutput(out).write(text) == len(text)
    assert out.getvalue() == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read http://me:s3cret@host:80/a@b/c: 401", "cannot read http://host:80/a@b/c: 401"),
        ("http://a:b@one/x,s3://K:V@two", "http://one/x,s3://two"),
        ("hf://datasets/me/faces@main/x", "hf://datasets/me/faces@main/x"),
    ],
)
def test_logins_are_cut_out_of_urls(text, shown):
    assert without_logins(text) == shown


def test_an_error_shows_a_name_as_it_is_and_no_password(fra_dist):
    done = fra_dist("shards", "stats", "http://me:s3cret@127.0.0.1:9/\x1b[2J")
    assert done.returncode != 0
    assert "127.0.0.1:9" in done.stderr
    assert "\x1b" not in done.stderr
    assert "s3cret" not in done.stdout + done.stderr
