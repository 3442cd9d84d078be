"""Model work beside the event loop: admission, scheduling, the bridge to asyncio."""
