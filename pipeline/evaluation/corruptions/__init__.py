"""Corrupts photographs by noise, blur, weather and digital effects, in five severities."""
