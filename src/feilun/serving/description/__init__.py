"""The API, described: OpenAPI, the page of it, its versions and how it may change."""
