"""The document and its page, and that both are of what is served."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from receiver.web import examples, openapi, problems
from receiver.web.app import build_app
from receiver.web.openapi import document
from receiver.web.operations import OPERATIONS
from receiver.web.page import reference
from tests.flow.rig import Rig, Stage
from tests.web.described import operations
from tests.web.door import Door, play

ROOT: Final = Path(__file__).parents[2]
#: Elements and attributes with which a page runs or loads something.
ACTIVE: Final = {"script", "img", "iframe", "object", "embed", "form", "link", "audio", "video"}


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.style = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name == "href" and value]

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style" and not self.style:
            self.style = data


PAGE: Final = Page(reference().page.decode())


def test_the_document_is_valid() -> None:
    assert list(OpenAPIV31SpecValidator(document()).iter_errors()) == []


def test_the_document_holds_every_route_and_no_other(stage: Stage) -> None:
    async def story(rig: Rig) -> None:
        routes = [each for each in build_app(rig.services, rig.intake).routes if isinstance(each, Route)]
        served = {(method, each.path) for each in routes for method in (each.methods or set()) - {"HEAD"}}
        assert {(method, path) for method, path, _ in operations(document())} == served

    stage.play(story)


def test_each_operation_has_a_name_and_a_summary_of_its_own() -> None:
    names = [each.name for each in OPERATIONS]
    assert len(set(names)) == len(names)
    summaries = [each.text[0] for each in OPERATIONS]
    assert len(set(summaries)) == len(summaries)
    assert all(summaries)


def test_each_operation_without_a_key_is_one_that_needs_none() -> None:
    free = {operation["operationId"] for _, path, operation in operations(document()) if not operation["security"]}
    assert free == {operation["operationId"] for _, path, operation in operations(document()) if path[:4] != "/v1/"}


def test_each_example_is_what_its_schema_says() -> None:
    seen = 0
    for _, _, operation in operations(document()):
        for part in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in part.get("content", {}).values():
                if "example" in content:
                    schema: dict[str, Any] = {**content["schema"], "components": document()["components"]}
                    wrong = [error.message for error in OAS31Validator(schema).iter_errors(content["example"])]
                    assert wrong == [], operation["operationId"]
                    seen += 1
    assert seen >= 3


def test_the_example_of_a_task_is_complete() -> None:
    schemas = document()["components"]["schemas"]
    assert set(examples.STORY) == set(schemas["TaskStory"]["properties"])
    assert set(examples.STORY["assets"][0]) == set(schemas["AssetView"]["properties"])


def test_each_example_of_a_problem_is_one() -> None:
    components = document()["components"]
    schema = {"$ref": "#/components/schemas/Problem", "components": components}
    assert set(components["examples"]) == set(problems.catalogue())
    for code, example in components["examples"].items():
        assert list(OAS31Validator(schema).iter_errors(example["value"])) == []
        assert example["value"]["code"] == code


def test_every_field_and_parameter_that_a_caller_may_send_is_explained() -> None:
    schemas = document()["components"]["schemas"]
    bare = []
    for _, _, operation in operations(document()):
        bare += [parameter["name"] for parameter in operation.get("parameters", ()) if not parameter["description"]]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            name = content["schema"].get("$ref", "").rpartition("/")[2]
            fields = schemas[name]["properties"] if name else {}
            bare += [f"{name}.{field}" for field, schema in fields.items() if "description" not in schema]
    assert bare == []


def test_every_bound_is_one_that_readers_of_schemas_know() -> None:
    assert re.findall(r'"(?:ge|le|gt|lt|min_length|max_length)":', openapi.text_of(document())) == []


def test_the_copy_for_readers_is_the_document() -> None:
    kept = (ROOT / "docs" / "openapi.json").read_text()
    assert kept == openapi.text_of(document()), "python -m receiver.web.openapi > docs/openapi.json"


def test_the_page_shows_every_operation_schema_and_problem() -> None:
    wanted = {each.name for each in OPERATIONS}
    wanted |= {f"schema-{name}" for name in document()["components"]["schemas"]}
    wanted |= {f"problem-{code}" for code in problems.catalogue()}
    assert wanted <= set(PAGE.ids)
    assert len(set(PAGE.ids)) == len(PAGE.ids)


def test_the_page_s_links_lead_somewhere_and_nowhere_else() -> None:
    assert {link for link in PAGE.links if not link.startswith("#")} == {"/openapi.json"}
    assert {link[1:] for link in PAGE.links if link.startswith("#")} <= set(PAGE.ids)


def test_the_page_runs_and_loads_nothing() -> None:
    assert ACTIVE & PAGE.tags == set()
    assert [name for name in PAGE.attributes if name.startswith("on") or name in {"src", "style"}] == []
    assert re.search(r"@import|url\(", PAGE.style) is None


def test_the_page_may_use_its_own_style_and_nothing_else(stage: Stage) -> None:
    async def story(door: Door) -> None:
        answer = await door.get("/docs")
        digest = base64.b64encode(hashlib.sha256(PAGE.style.encode()).digest()).decode()
        assert answer.headers["content-security-policy"] == (
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none';"
            " frame-ancestors 'none'"
        )
        assert answer.text == reference().page.decode()

    play(stage, story)


def test_the_document_and_the_page_need_no_key(stage: Stage) -> None:
    async def story(door: Door) -> None:
        for path in ("/openapi.json", "/docs"):
            assert (await door.get(path, Authorization="")).status_code == 200
        answer = await door.get("/", Authorization="")
        assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
        assert json.loads((await door.get("/openapi.json")).content) == document()

    play(stage, story)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_and_a_method_that_is_not_served_are_problems_with_a_request_id(
    stage: Stage, method: str
) -> None:
    async def story(door: Door) -> None:
        for path, code in (
            ("/nowhere", "not_found"),
            ("/docs", "method_not_allowed"),
            ("/v1/tasks:x", "not_found"),
            ("/v1/tasks/", "not_found"),
            ("/docs/", "not_found"),
            ("/a/1/token/", "not_found"),
        ):
            answer = await door.client.request(method, path)
            if (method, path) != ("GET", "/docs"):
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["code"] == code
                assert answer.json()["request_id"] == answer.headers["x-request-id"]

    play(stage, story)
