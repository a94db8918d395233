import pytest

from cbir_lib.addresses import hide_credentials, scrub

SECRET = "s3cret"
ADDRESSES = {
    f"http://root:{SECRET}@host:19530": "http://host:19530",
    f"http://root:{SECRET}@@host": "http://host",
    f"http://root:a@{SECRET}@host/db": "http://host/db",
    f"http://root:a/{SECRET}@host": "http://***",
    f"http://root:{SECRET}/a@host": "http://***",
    f"http://root:{SECRET}?a@host": "http://***",
    f"http://root:{SECRET}#a@host": "http://***",
    f"http://{SECRET}@host": "http://host",
    f"https://host/db?token={SECRET}": "https://host/db?***",
    f"https://host?a=b&api_key={SECRET}": "https://host?***",
    f"https://host/db?token=x@{SECRET}": "https://***",
    f"https://host#{SECRET}": "https://host#***",
    f"root:{SECRET}@host:19530": "host:19530",
    f"root:{SECRET}@host/default.db": "host/default.db",
    f"grpc://root:{SECRET}@[::1]:19530": "grpc://[::1]:19530",
}


@pytest.mark.parametrize(("address", "shown"), ADDRESSES.items())
def test_credentials_are_hidden_in_every_form(address, shown):
    assert hide_credentials(address) == shown
    secret = address.partition("://")[2].rpartition("@")[0] or SECRET
    for text in (f"cannot reach {address}: refused", f"{address!r}", f"bad password {secret!r}"):
        assert address not in scrub(text, [address])
        assert SECRET not in scrub(text, [address])


@pytest.mark.parametrize("address", ["http://host:19530/db", "archive.db", "me@home.db", "x"])
def test_what_has_none_stays(address):
    assert hide_credentials(address) == address
    assert scrub(f"at {address}", [address]) == f"at {address}"


def test_decoded_and_quoted_forms_are_hidden():
    address = "http://root:p%40ss%2Fword@host"
    assert scrub("login root:p@ss/word failed: p@ss/word", [address]) == "login *** failed: ***"
