"""Sending a plan and receiving the answers with exact times, in one Locust process or several."""
