"""openai-python: threads and runs with a handler, tools, polling, file search, Responses, Conversations and Chat."""

import json

import openai
from openai import AssistantEventHandler, OpenAI

client = OpenAI()
WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


class Handler(AssistantEventHandler):
    """OpenAI's quickstart handler."""

    def __init__(self):
        super().__init__()
        self.text, self.arguments, self.answered = "", "", None

    def on_text_delta(self, delta, snapshot):
        self.text += delta.value

    def on_tool_call_delta(self, delta, snapshot):
        self.arguments += delta.function.arguments or ""

    def on_event(self, event):
        if event.event == "thread.run.requires_action":
            run = event.data
            outputs = [
                {"tool_call_id": call.id, "output": "sunny"}
                for call in run.required_action.submit_tool_outputs.tool_calls
            ]
            self.answered = Handler()
            with client.beta.threads.runs.submit_tool_outputs_stream(
                thread_id=run.thread_id, run_id=run.id, tool_outputs=outputs, event_handler=self.answered
            ) as stream:
                stream.until_done()


# Threads and runs, streamed with a handler and a function.
assistant = client.beta.assistants.create(model="m", tools=[{"type": "function", "function": WEATHER}])
thread = client.beta.threads.create(messages=[{"role": "user", "content": "weather in Bern?"}])
handler = Handler()
with client.beta.threads.runs.stream(thread_id=thread.id, assistant_id=assistant.id, event_handler=handler) as stream:
    stream.until_done()
assert json.loads(handler.arguments) == {"city": "Bern"}, handler.arguments
assert handler.answered.text == "It is sunny.", handler.answered.text

# The same, polled.
run = client.beta.threads.runs.create_and_poll(thread_id=thread.id, assistant_id=assistant.id)
assert run.status == "completed", run
newest = client.beta.threads.messages.list(thread.id, limit=1).data[0]
assert newest.content[0].text.value, newest
assert {step.type for step in client.beta.threads.runs.steps.list(run.id, thread_id=thread.id)} == {"message_creation"}

# A vector store, in a run and in Responses.
file = client.files.create(file=("notes.md", b"Dahlias bloom in August."), purpose="assistants")
store = client.vector_stores.create(name="notes")
added = client.vector_stores.files.create_and_poll(vector_store_id=store.id, file_id=file.id)
assert added.status == "completed", added
searcher = client.beta.assistants.create(
    model="m",
    tools=[{"type": "file_search"}],
    tool_resources={"file_search": {"vector_store_ids": [store.id]}},
)
run = client.beta.threads.create_and_run_poll(
    assistant_id=searcher.id, thread={"messages": [{"role": "user", "content": "What do my notes say?"}]}
)
said = client.beta.threads.messages.list(run.thread_id, limit=1).data[0].content[0].text
assert "August" in said.value, said
assert said.annotations[0].file_citation.file_id == file.id, said
tool = {"type": "file_search", "vector_store_ids": [store.id]}
response = client.responses.create(model="m", input="What do my notes say?", tools=[tool])
assert "August" in response.output_text, response

# Responses: streamed, a function, a chain, a conversation, the history by reference.
with client.responses.stream(model="m", input="weather?", tools=[{"type": "function", **WEATHER}]) as events:
    called = [event for event in events if event.type == "response.output_item.done"][-1].item
    first = events.get_final_response()
assert called.name == "weather", called
answered = client.responses.create(
    model="m",
    previous_response_id=first.id,
    input=[{"type": "function_call_output", "call_id": called.call_id, "output": "sunny"}],
)
assert answered.output_text == "It is sunny.", answered.output_text
conversation = client.conversations.create()
client.responses.create(model="m", input="Hello", conversation=conversation.id)
assert len(client.conversations.items.list(conversation.id).data) == 2

# Chat completions, streamed, and a refusal that the client can read.
with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "Hello"}]) as chat:
    chat.until_done()
    assert chat.get_final_completion().choices[0].message.content == "You said: Hello"
try:
    client.beta.threads.retrieve("thread_none")
    refusal = ""
except openai.NotFoundError as error:
    refusal = str(error)
assert "No thread found with id 'thread_none'." in refusal, refusal
