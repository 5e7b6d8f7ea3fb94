"""Photographs made worse: noise, blur, weather and what cameras do, in five strengths."""
