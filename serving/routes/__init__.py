"""The routes of the API, one file an area."""

from serving.routes import events, health, rank, recommendations, users

ROUTERS = (health.router, events.router, recommendations.router, rank.router, users.router)
