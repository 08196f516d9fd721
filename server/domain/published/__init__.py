"""The published code's files (yk7333/d3po) as a project, and a project as such files. docs/formats.md describes them.

This part reads and writes prompts, images, votes and rows; sample.pkl needs PyTorch and is worker/published.py's.
"""
