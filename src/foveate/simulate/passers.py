"""Whatever else moves in a video: a passing dog, hens, birds, leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from foveate.simulate.anatomy import DOG, bird, hen, leaf, pose
from foveate.simulate.behaviour import Motion
from foveate.simulate.ethogram import BEHAVIOURS
from foveate.simulate.scene import Actor


def distractors(n_frames: int, fps: float, half: tuple[float, float], amount: float, rng: np.random.Generator) -> list[Actor]:
    """Other things that move: a passing dog, hens, birds, leaves. ``amount`` 0 gives none, 1 the usual."""
    actors: list[Actor] = []
    if rng.uniform() < 0.35 * amount:
        actors.append(_passing_dog(n_frames, fps, rng))
    for _ in range(rng.binomial(2, min(1.0, 0.35 * amount))):
        actors.append(_hen(n_frames, fps, half, rng))
    if rng.uniform() < 0.4 * amount:
        for _ in range(rng.integers(1, 1 + max(1, round(n_frames / fps / 5)))):
            actors.append(_bird(n_frames, fps, rng))
    if rng.uniform() < 0.4 * amount:
        for _ in range(rng.integers(2, 2 + max(1, round(n_frames / fps / 2)))):
            actors.append(_leaf(n_frames, fps, rng))
    return actors


def _passing_dog(n_frames: int, fps: float, rng: np.random.Generator) -> Actor:
    """Trots past the animal, on either side of it."""
    speed, yaw, offset = rng.uniform(0.9, 1.5), rng.uniform(0, 2 * np.pi), rng.uniform(1.5, 2.1) * rng.choice([-1, 1])
    n = min(n_frames, int(8.0 / speed * fps))
    along = (np.arange(n) / fps) * speed - 4.0
    zero, one = np.zeros(n), np.ones(n)
    motion = Motion(
        labels=np.zeros((n, len(BEHAVIOURS)), bool),
        x=along * np.cos(yaw) - offset * np.sin(yaw),
        y=along * np.sin(yaw) + offset * np.cos(yaw),
        yaw=np.full(n, yaw),
        speed=speed * one,
        yaw_rate=zero,
        stand=one,
        walk=one,
        stride=along / 0.55,
        eat=zero,
        alert=zero,
        low=zero,
        look=0.3 * np.sin(np.arange(n) / fps),
        chew=zero,
    )
    coat = ((0.05, 0.04, 0.04), (0.28, 0.17, 0.08), (0.5, 0.47, 0.42))[rng.integers(3)]
    return Actor(
        pose(replace(DOG, fleece=coat, face=coat, legs=coat), motion), first=int(rng.integers(0, max(1, n_frames - n)))
    )


def _hen(n_frames: int, fps: float, half: tuple[float, float], rng: np.random.Generator) -> Actor:
    """Wanders near the walls, stops and pecks."""
    n = n_frames
    going = np.repeat(rng.uniform(size=int(n / fps / 1.5) + 2) < 0.55, int(1.5 * fps) + 1)[:n].astype(np.float64)
    going = np.convolve(np.pad(going, 2, mode="edge"), np.ones(5) / 5, "valid")
    angle = rng.uniform(0, 2 * np.pi) + rng.choice([-1, 1]) * np.cumsum(going) * rng.uniform(0.15, 0.3) / fps
    away = rng.uniform(1.45, 0.85 * min(half))
    x, y = away * np.cos(angle), away * np.sin(angle)
    yaw = np.arctan2(np.gradient(y), np.gradient(x)) if np.ptp(angle) > 0 else angle
    yaw = np.where(going > 0.05, yaw, angle + np.pi / 2)
    peck = (1 - going) * np.clip(np.sin(2 * np.pi * 0.9 * np.arange(n) / fps + rng.uniform(0, 6)) * 1.6, 0, 1)
    colour = ((0.75, 0.72, 0.66), (0.3, 0.12, 0.05), (0.04, 0.04, 0.045))[rng.integers(3)]
    return Actor(hen(x, y, yaw, np.cumsum(going) * 1.8 / fps, peck, colour))


def _bird(n_frames: int, fps: float, rng: np.random.Generator) -> Actor:
    speed, yaw, height = rng.uniform(2.5, 5), rng.uniform(0, 2 * np.pi), rng.uniform(0.9, 1.7)
    n = min(n_frames, int(8 / speed * fps))
    along, offset = np.arange(n) / fps * speed - 4, rng.uniform(-1.5, 1.5)
    position = np.stack(
        [along * np.cos(yaw) - offset * np.sin(yaw), along * np.sin(yaw) + offset * np.cos(yaw), height + 0.1 * np.sin(along)],
        -1,
    )
    return Actor(
        bird(position, yaw, np.sin(2 * np.pi * 3.7 * np.arange(n) / fps)), int(rng.integers(0, max(1, n_frames - n))), False
    )


def _leaf(n_frames: int, fps: float, rng: np.random.Generator) -> Actor:
    n = min(n_frames, int(rng.uniform(2, 4) * fps))
    time = np.arange(n) / fps
    wind, start = rng.normal(0, 0.6, 2), rng.uniform(-1.8, 1.8, 2)
    position = np.stack(
        [start[i] + wind[i] * time + 0.12 * np.sin(3 * time + i) for i in (0, 1)] + [np.maximum(1.6 - 0.6 * time, 0.03)], -1
    )
    colour = ((0.3, 0.16, 0.04), (0.34, 0.28, 0.05), (0.15, 0.2, 0.05))[rng.integers(3)]
    return Actor(leaf(position, 5 * time + rng.uniform(0, 6), colour), int(rng.integers(0, max(1, n_frames - n))), False)
