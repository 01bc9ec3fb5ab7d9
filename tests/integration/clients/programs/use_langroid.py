"""langroid: a ChatAgent with a function."""

import importlib.util
import os
from pathlib import Path

litellm = Path(importlib.util.find_spec("litellm").origin).parent
os.environ["TIKTOKEN_CACHE_DIR"] = str(litellm / "litellm_core_utils" / "tokenizers")

lr = importlib.import_module("langroid")
lm = importlib.import_module("langroid.language_models")

config = lm.OpenAIGPTConfig(
    chat_model="m", api_base=os.environ["OPENAI_BASE_URL"], api_key="key", chat_context_length=8000, stream=True
)
agent = lr.ChatAgent(lr.ChatAgentConfig(llm=config, system_message="Help."))
assert agent.llm_response("Hello").content == "You said: Hello"
