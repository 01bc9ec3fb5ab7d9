"""agency-swarm: an agency of one agent with a tool, answered and streamed."""

import os
import tempfile

from agency_swarm import Agency, AgencyEventHandler, Agent, BaseTool, set_openai_client
from openai import OpenAI
from pydantic import Field

set_openai_client(OpenAI())


class weather(BaseTool):
    """Return the weather of a city."""

    city: str = Field(..., description="The city.")

    def run(self):
        return "sunny"


class Handler(AgencyEventHandler):
    text = ""

    def on_text_delta(self, delta, snapshot):
        Handler.text += delta.value


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    agency = Agency([Agent(name="helper", description="Helps.", instructions="Help.", tools=[weather], model="m")])
    assert agency.get_completion("weather in Bern?") == "It is sunny."
    agency.get_completion_stream("Hello", event_handler=Handler)
    assert Handler.text == "You said: Hello", Handler.text
    os.chdir("/")
