"""`flow8 providers`: what can be connected, without asking anybody."""

from __future__ import annotations

from pathlib import Path

import pytest

from credentials.providers.catalogue import BUILT_IN
from tests.cli.kit import Home

ACME = """
from credentials.providers.provider import Identity, Provider
from flow8_core.egress import Hosts

PROVIDER = Provider(
    service="acme_cloud",
    title="Acme Cloud",
    authorize_url="https://id.acme.example/authorize",
    token_url="https://id.acme.example/token",
    base_url="https://api.acme.example/",
    api_hosts=Hosts.of("api.acme.example"),
    identity=Identity(user_id=("reply.user",)),
)
"""
CONFIGURED = {
    "public_url": "https://flow8.example",
    "oauth2": {
        "own": {
            "issuer": "https://id.own.example",
            "client_id": "o",
            "client_secret": "secret-of-own",
            "api_hosts": ["api.own.example"],
        },
        "quickbooks": {"client_id": "qb-1", "client_secret": "secret-of-quickbooks"},
    },
    "services": {"quickbooks": {"site": "sandbox"}, "clio": {"site": "eu"}},
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a provider, and one that cannot be imported."""
    site = tmp_path / "site"
    for name, text, point in (("acme_flow8", ACME, "acme_cloud"), ("broken_flow8", "import nothing_there", "broken")):
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(text)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[flow8.providers]\n{point} = {name}:PROVIDER\n")
    monkeypatch.syspath_prepend(str(site))
    return site


def test_all_built_in_services_are_listed_and_no_store_is_made(home: Home) -> None:
    done = home.flow8("providers", "--json")

    assert done.code == 0
    assert {one["service"] for one in done.document["providers"]} == set(BUILT_IN)
    assert not any(one["configured"] for one in done.document["providers"])
    assert not (home.folder / ".flow8").exists()


def test_the_configuration_is_in_what_is_told_and_its_secrets_are_not(home: Home) -> None:
    home.settings(**CONFIGURED)

    told = {one["service"]: one for one in home.flow8("providers", "--json").document["providers"]}
    shown = home.flow8("providers").stdout + home.flow8("providers", "quickbooks").stdout

    assert told["quickbooks"]["configured"]
    assert told["quickbooks"]["base_url"] == "https://sandbox-quickbooks.api.intuit.com/"
    assert told["quickbooks"]["redirect_uri"] == "https://flow8.example/auth/callback/quickbooks"
    assert told["clio"]["authorize_url"] == "https://eu.app.clio.com/oauth/authorize"
    assert told["own"]["issuer"] == "https://id.own.example"
    assert (told["own"]["token_url"], told["bexio"]["token_url"]) == (None, None)
    assert "secret-of" not in f"{told}{shown}"
    assert "sandbox" in shown


def test_one_provider_is_shown_in_words_and_as_json(home: Home) -> None:
    words, document = home.flow8("providers", "google"), home.flow8("providers", "google", "--json").document

    assert "180 days after its last refresh" in words.stdout
    assert "works again" in words.stdout
    assert (document["replay"], document["idle_s"], document["rotation"]) == ("reusable", 180 * 86400, "never")
    assert document["scopes"]["short_names"]["sheets"] == "https://www.googleapis.com/auth/spreadsheets"


def test_an_unknown_name_is_bad_usage_and_the_near_one_is_named(home: Home) -> None:
    done = home.flow8("providers", "quickbook")

    assert done.code == 2
    assert "quickbooks" in done.stderr


@pytest.mark.usefixtures("installed")
def test_an_installed_package_adds_a_provider_and_a_broken_one_hides_none(home: Home) -> None:
    done = home.flow8("providers", "--json")

    assert done.code == 0
    assert {one["service"] for one in done.document["providers"]} == {*BUILT_IN, "acme_cloud"}
    assert "broken" in done.stderr
    assert "ModuleNotFoundError" in done.stderr
    assert home.flow8("providers", "acme_cloud", "--json").document["api_hosts"] == ["api.acme.example"]
    assert home.flow8("providers", "broken").code == 2


@pytest.mark.usefixtures("installed")
def test_an_installed_provider_is_configured_like_a_known_service(home: Home) -> None:
    app = {"client_id": "a", "client_secret": "secret-of-acme"}
    home.settings(oauth2={"acme_cloud": app | {"token_url": "https://elsewhere.example/token"}})

    done = home.flow8("providers", "acme_cloud")

    assert done.code == 2
    assert "oauth2.acme_cloud.token_url" in done.stderr
    home.settings(oauth2={"acme_cloud": app})
    assert home.flow8("providers", "acme_cloud", "--json").document["configured"]
