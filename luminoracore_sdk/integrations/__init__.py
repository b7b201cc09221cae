"""Adapters for agent frameworks, a module each; see the how-to pages.

Each needs the extra of its framework: ``luminoracore-sdk[openai-agents]``, ``[claude-agent-sdk]``, ``[langchain]``,
``[pydantic-ai]``, ``[strands]``, ``[llama-index]``, ``[agent-framework]``, ``[google-adk]``,
``[langgraph]``.
"""
