"""schemathesis: made-up requests, right and wrong ones, for every operation of the server's own OpenAPI document.

No reply may be a 5xx, wrong requests must be refused with the error body of the document, and a reply to the creation, the
retrieval or the update of an object must have the type that openai-python gives it.
"""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import openai
from openai import types
from openai.types import beta, chat, conversations, responses, vector_stores
from openai.types.beta import threads
from pydantic import TypeAdapter

TYPES = {
    "assistant": beta.Assistant,
    "chat_completion": chat.ChatCompletion,
    "conversation": conversations.Conversation,
    "file": types.FileObject,
    "message": threads.Message,
    "response": responses.Response,
    "run": threads.Run,
    "thread": beta.Thread,
    "thread_and_run": threads.Run,
    "upload": types.Upload,
    "store": types.VectorStore,
    "store_file": vector_stores.VectorStoreFile,
    "service_batch": types.Batch,
}
VERBS = ("create", "retrieve", "update", "cancel", "complete", "add", "upload")
url = os.environ["OPENAI_BASE_URL"]
with urllib.request.urlopen(f"{url.removesuffix('/v1')}/openapi.json") as reply:
    document = json.load(reply)

# Objects that exist, so that requests reach more than a 404.
client = openai.OpenAI()
assistant = client.beta.assistants.create(model="m")
thread = client.beta.threads.create(messages=[{"role": "user", "content": "Hello"}])
run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
file = client.files.create(file=("notes.md", b"Dahlias bloom in August."), purpose="assistants")
store = client.vector_stores.create(file_ids=[file.id])
conversation = client.conversations.create(items=[{"type": "message", "role": "user", "content": "Hello"}])
KNOWN = {
    "assistant_id": assistant.id,
    "thread_id": thread.id,
    "run_id": run.id,
    "message_id": client.beta.threads.messages.list(thread.id).data[0].id,
    "step_id": client.beta.threads.runs.steps.list(run.id, thread_id=thread.id).data[0].id,
    "file_id": file.id,
    "vector_store_id": store.id,
    "conversation_id": conversation.id,
    "item_id": client.conversations.items.list(conversation.id).data[0].id,
    "response_id": client.responses.create(model="m", input="Hello").id,
    "completion_id": client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "Hello"}], store=True
    ).id,
    "upload_id": client.uploads.create(bytes=4, filename="a.txt", mime_type="text/plain", purpose="assistants").id,
    "model": "scripted-1",
}
checked = 0
for schema in document["components"]["schemas"].values():
    for name in ("assistant_id", "file_id"):
        if name in schema.get("properties", {}) and "type" in schema["properties"][name]:
            schema["properties"][name]["enum"] = [KNOWN[name]]
for methods in document["paths"].values():
    for method, item in methods.items():
        for parameter in item["parameters"]:
            if parameter["name"] in KNOWN and method != "delete":
                parameter["schema"]["enum"] = [KNOWN[parameter["name"]]]
        verb, _, noun = item["operationId"].partition("_")
        if verb in VERBS and noun in TYPES:
            name = TYPES[noun].__name__
            schema = TypeAdapter(TYPES[noun]).json_schema(ref_template=f"#/components/schemas/sdk.{name}.{{model}}")
            for each, definition in schema.pop("$defs", {}).items():
                document["components"]["schemas"][f"sdk.{name}.{each}"] = definition
            item["responses"]["200"]["content"] = {"application/json": {"schema": schema}, "text/event-stream": {}}
            checked += 1
assert checked > 25, checked
Path("openapi.json").write_text(json.dumps(document))
command = [
    *(str(Path(sys.executable).parent / "schemathesis"), "--no-color", "run", "openapi.json", f"--url={url.removesuffix('/v1')}"),
    *("--phases=coverage,fuzzing", "--max-examples=8", "--seed=20", "--generation-database=none", "--no-shrink"),
    *("--checks=not_a_server_error,status_code_conformance,response_schema_conformance,negative_data_rejection", "--continue-on-failure"),
    *("--header=Authorization:Bearer key", "--request-timeout=10", "--workers=2", "--max-time=60"),
    *sys.argv[1:],
]  # fmt: skip
sys.exit(subprocess.run(command, check=False).returncode)
