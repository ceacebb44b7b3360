"""The OpenAPI document: valid, complete, and made of nothing but what is used."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import openapi_spec_validator
import pytest
import yaml as pyyaml
from hypothesis import given
from hypothesis import strategies as st

from minwebhook.api import openapi, yaml
from minwebhook.api.context import Context
from minwebhook.api.endpoint import Access, Endpoint
from minwebhook.api.openapi import Answer, Body, Operation, operation_id
from minwebhook.api.operations import OPERATIONS, api_document
from minwebhook.api.parameters import Parameter, flag
from minwebhook.api.routes import all_routes
from minwebhook.http.messages import Response
from minwebhook.http.routing import Route

DOCUMENT: Final = api_document()
OPERATION_LIST: Final = [each for item in DOCUMENT["paths"].values() for each in item.values()]


async def do(context: Context) -> Response:
    """Does it.

    More on it.
    """
    return Response(200)


def document_of(*routes: tuple[str, str], operation: Operation, access: Access = Access.TOKEN) -> dict[str, Any]:
    """The document of a program with these routes to one function."""
    endpoint = Endpoint(do, "things", "read", access)
    return openapi.document([Route(*route, endpoint) for route in routes], {do: operation}, "1.2.3")


def references(value: Any) -> Iterator[str]:
    """Every reference in the document."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_document_is_valid() -> None:
    openapi_spec_validator.validate(json.loads(json.dumps(DOCUMENT)))


def test_every_route_has_an_operation_and_no_operation_is_without_a_route() -> None:
    assert OPERATIONS.keys() == {route.endpoint.call for route in all_routes()}
    assert len(OPERATION_LIST) == len(all_routes())


def test_every_component_is_used() -> None:
    used = set(references(json.loads(json.dumps(DOCUMENT))))
    components = DOCUMENT["components"]
    kinds = ("schemas", "parameters", "responses")
    assert used == {f"#/components/{kind}/{name}" for kind in kinds for name in components[kind]}


def test_ids_are_unique_and_depend_on_their_own_route_alone() -> None:
    assert len({each["operationId"] for each in OPERATION_LIST}) == len(OPERATION_LIST)
    for route in all_routes():
        alone = openapi.document([route], OPERATIONS, "1.2.3")
        ((_, item),) = alone["paths"].items()
        assert item[route.method.lower()]["operationId"] == operation_id(route)
        assert re.fullmatch("[a-z]+(_[a-z0-9]+)+", operation_id(route))


@pytest.mark.parametrize("operation", OPERATION_LIST, ids=lambda each: each["operationId"])
def test_the_words_are_for_readers_of_the_document(operation: dict[str, Any]) -> None:
    assert operation["summary"].endswith(".")
    for text in (operation["summary"], operation.get("description", "")):
        assert not re.search(r":[a-z]+:`", text), "a role of the code's documentation"


def test_what_a_route_says_of_itself_is_in_the_document() -> None:
    operation = Operation(
        {201: Answer("Done.", {"text/plain": {"type": "string"}})},
        parameters=(flag("loud", "Says so."), Parameter("only", {}, "For GET.", only_for="GET")),
        body=Body("Any.", {"*/*": {}}, is_required=False),
    )
    shown = document_of(("GET", "/api/w/{workspace}/x/{path...}"), ("POST", "/api/x"), operation=operation)
    get, post = shown["paths"]["/api/w/{workspace}/x/{path}"]["get"], shown["paths"]["/api/x"]["post"]
    assert (get["summary"], get["description"], get["operationId"]) == ("Does it.", "More on it.", "get_x_path")
    names = ["workspace", "path", "loud", "only"]
    assert get["parameters"] == [{"$ref": f"#/components/parameters/{name}"} for name in names]
    assert post["parameters"] == [{"$ref": "#/components/parameters/loud"}]
    assert "requestBody" not in get
    assert post["requestBody"] == {"description": "Any.", "required": False, "content": {"*/*": {"schema": {}}}}
    assert list(get["responses"]) == ["201", "400", "401", "403", "404", "429", "503"]
    assert list(post["responses"]) == ["201", "400", "401", "403", "413", "415", "429", "503"]
    assert "security" not in get
    assert shown["info"]["version"] == "1.2.3"


def test_a_public_route_wants_no_credential_and_refuses_none() -> None:
    shown = document_of(("GET", "/api/x"), operation=Operation({200: Answer("Done.", {})}), access=Access.PUBLIC)
    get = shown["paths"]["/api/x"]["get"]
    assert (get["security"], get["responses"]) == ([], {"200": {"description": "Done."}})


def test_where_a_token_is_optional_none_is_one_of_the_choices() -> None:
    shown = document_of(("GET", "/api/x"), operation=Operation({200: Answer("Done.", {})}), access=Access.OPTIONAL)
    get = shown["paths"]["/api/x"]["get"]
    assert get["security"] == [*shown["security"], {}]
    assert "401" in get["responses"]


def test_a_script_may_answer_with_any_status_and_type() -> None:
    operation = Operation({200: Answer("The result.", {"application/json": {}})}, script_answers=True)
    answers = document_of(("GET", "/api/x"), operation=operation)["paths"]["/api/x"]["get"]["responses"]
    assert list(answers) == ["200", "400", "401", "403", "429", "500", "503", "default"]
    assert all("*/*" in answer["content"] for status, answer in answers.items() if status != "200")


def test_a_route_without_an_operation_is_refused() -> None:
    with pytest.raises(KeyError):
        openapi.document(all_routes(), {}, "1.2.3")


def test_two_parameters_of_one_name_need_different_keys() -> None:
    operation = Operation(
        {200: Answer("Done.", {})}, parameters=(flag("loud", "Says so."), flag("loud", "Says nothing."))
    )
    with pytest.raises(ValueError, match="two parameters have the key loud"):
        document_of(("GET", "/api/x"), operation=operation)


def test_the_document_means_the_same_as_yaml() -> None:
    assert pyyaml.safe_load(yaml.dumps(DOCUMENT)) == json.loads(json.dumps(DOCUMENT))


JSON: Final = st.recursive(
    # No floats: PyYAML reads YAML 1.1, for which 1e+16 is a text.
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["yes", "null", "- a", "a: b", "#", "~"]),
    lambda members: st.lists(members) | st.dictionaries(st.text() | st.sampled_from(["yes", "n", "x"]), members),
)


@given(JSON)
def test_any_json_value_means_the_same_as_yaml(value: Any) -> None:
    assert pyyaml.safe_load(yaml.dumps(value)) == value
