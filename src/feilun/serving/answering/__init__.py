"""The routes of views and capabilities: what is read, scored and answered."""
