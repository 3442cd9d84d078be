"""`response_format` of a chat: an answer that is JSON, of any kind or of a schema."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from antiphon.dialogue.tool_calls import unmarked
from antiphon.errors import ToolCallError
from antiphon.models.llm.grammar import ANY_OBJECT
from antiphon.serve.errors import RequestError, missing

MAX_TOLD_LETTERS = 1500  # of a schema that the model reads before it answers; a longer one it is merely held to
OF_ANY_KIND = "Answer with a JSON object and nothing else."
OF_A_SCHEMA = "Answer with JSON that fits this schema, and nothing else: "


class JsonSchema(BaseModel):
    """A schema; `strict` changes nothing, as every answer is held to it."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = Field(None, max_length=1024)
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(BaseModel):
    """Text, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


def read_format(asked: ResponseFormat | None) -> tuple[str | None, str]:
    """The schema that an answer is held to, None for plain text; and what the model is told of it.

    Raises:
        RequestError: naming the field.
    """
    if asked is None or asked.type == "text":
        return None, ""
    if asked.type == "json_object":
        return ANY_OBJECT, OF_ANY_KIND
    if asked.json_schema is None:
        raise missing("response_format.json_schema")
    if asked.json_schema.schema_ is None:
        raise missing("response_format.json_schema.schema")
    try:
        schema = json.dumps(unmarked(asked.json_schema.schema_), ensure_ascii=False)
    except ToolCallError as error:
        raise RequestError("invalid_value", str(error), "response_format.json_schema.schema") from None
    about = f" ({asked.json_schema.description})" if asked.json_schema.description else ""
    told = f"{OF_A_SCHEMA}{schema}{about}" if len(schema) <= MAX_TOLD_LETTERS else OF_ANY_KIND
    return schema, told
