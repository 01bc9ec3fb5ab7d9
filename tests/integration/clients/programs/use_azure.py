"""AzureOpenAI, with only its endpoint changed: assistants, Chat Completions and Responses."""

import os

from openai import AzureOpenAI

endpoint = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
client = AzureOpenAI(azure_endpoint=endpoint, api_key="key", api_version="2025-04-01-preview")
assistant = client.beta.assistants.create(model="deployment")
run = client.beta.threads.create_and_run_poll(
    assistant_id=assistant.id, thread={"messages": [{"role": "user", "content": "Hello"}]}
)
assert run.status == "completed", run
text = client.beta.threads.messages.list(run.thread_id, limit=1).data[0].content[0].text.value
assert text == "You said: Hello", text
chat = client.chat.completions.create(model="deployment", messages=[{"role": "user", "content": "Hello"}])
assert chat.model == "deployment", chat
assert chat.choices[0].message.content == "You said: Hello", chat
assert client.responses.create(model="deployment", input="Hello").output_text == "You said: Hello"
