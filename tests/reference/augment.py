"""Reference augmentation of one frame, pixel by pixel in plain Python."""

import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VOID = 255


def augment_frame(
    image: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    random_numbers: NDArray[np.float64],
    settings: Any,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the image of the crop (rows, columns, 3), normalized, and its labels (rows, columns).

    Args:
        image: (h, w, 3) RGB.
        labels: (h, w) train ids.
        random_numbers: 30 numbers: scale factor, ten positions (row, column), flip, four coins,
            four strengths.
        settings: has `crop`, `scale`, `max_class_share`, `flip` and `photometric`.
    """
    factor = settings.scale[0] + random_numbers[0] * (settings.scale[1] - settings.scale[0])
    extents = [crop_extent(labels.shape[i], settings.crop[i], factor) for i in (0, 1)]
    for attempt in range(10):
        window = []
        for i in (0, 1):
            start = math.floor(
                random_numbers[1 + 2 * attempt + i] * (labels.shape[i] - extents[i][0] + 1)
            )
            window.append(slice(start, start + extents[i][0]))
        small_labels = resize_labels(labels[tuple(window)], extents[0][1], extents[1][1])
        if meets_class_share(small_labels, settings.max_class_share):
            break
    small = resize_image(image[tuple(window)].astype(float), extents[0][1], extents[1][1])
    if settings.photometric:
        small = [
            [adjust_color(color, random_numbers[22:26], random_numbers[26:30]) for color in row]
            for row in small
        ]
    result = np.zeros((*settings.crop, 3))
    target = np.full(settings.crop, VOID, np.int64)
    for y, row in enumerate(small):
        for x, color in enumerate(row):
            clamped = [min(max(channel, 0.0), 255.0) / 255 for channel in color]
            result[y, x] = [(c - m) / s for c, m, s in zip(clamped, MEAN, STD, strict=True)]
            target[y, x] = small_labels[y][x]
    if settings.flip and random_numbers[21] < 0.5:
        return result[:, ::-1], target[:, ::-1]
    return result, target


def crop_extent(side: int, crop: int, factor: float) -> tuple[int, int]:
    """Return how many pixels of a side are cropped, and to how many they are scaled."""
    cropped = max(1, round(crop / factor))
    return (cropped, crop) if cropped <= side else (side, min(crop, max(1, round(side * factor))))


def resize_labels(labels: NDArray[np.uint8], rows: int, columns: int) -> list[list[int]]:
    """Return the label at the center of every new pixel, in exact fractions."""
    h, w = labels.shape
    return [
        [int(labels[center_pixel(y, h, rows), center_pixel(x, w, columns)]) for x in range(columns)]
        for y in range(rows)
    ]


def center_pixel(i: int, source: int, target: int) -> int:
    """Return the source pixel that contains the center of the i-th target pixel."""
    return math.floor((i + Fraction(1, 2)) * Fraction(source, target))


def meets_class_share(labels: list[list[int]], max_class_share: float) -> bool:
    """Return whether there are labeled pixels, and no class has more than its share."""
    counts = Counter(label for row in labels for label in row if label != VOID)
    total = sum(counts.values())
    return total > 0 and all(count <= max_class_share * total for count in counts.values())


def resize_image(image: NDArray[np.float64], rows: int, columns: int) -> Any:
    """(h, w, 3) -> (rows, columns, 3), by a triangle filter that is wider where it shrinks."""
    vertical = np.array([triangle_weights(y, image.shape[0], rows) for y in range(rows)])
    horizontal = np.array([triangle_weights(x, image.shape[1], columns) for x in range(columns)])
    return np.einsum("yi,xj,ijc->yxc", vertical, horizontal, image)


def triangle_weights(i: int, source: int, target: int) -> list[float]:
    """Return the weight of each source pixel in the i-th target pixel; they sum to 1."""
    ratio = source / target
    center, reach = (i + 0.5) * ratio, max(ratio, 1.0)
    weights = [max(0.0, 1 - abs(j + 0.5 - center) / reach) for j in range(source)]
    return [weight / sum(weights) for weight in weights]


def adjust_color(color: Any, coins: Any, strengths: Any) -> list[float]:
    """Return a color after the changes whose coin is below 1/2, one after the other."""
    red, green, blue = (float(channel) for channel in color)
    if coins[0] < 0.5:
        added = -32 + 64 * strengths[0]
        red, green, blue = red + added, green + added, blue + added
    if coins[1] < 0.5:
        gain = 0.5 + strengths[1]
        red, green, blue = red * gain, green * gain, blue * gain
    if coins[2] < 0.5:
        largest, gain = max(red, green, blue), 0.5 + strengths[2]
        red, green, blue = (largest + (channel - largest) * gain for channel in (red, green, blue))
    if coins[3] < 0.5:
        red, green, blue = rotate_hue((red, green, blue), math.radians(-36 + 72 * strengths[3]))
    return [red, green, blue]


def rotate_hue(color: tuple[float, ...], angle: float) -> tuple[float, ...]:
    """Rotate about (1, 1, 1), by Rodrigues' formula."""
    red, green, blue = color
    gray = (red + green + blue) / 3
    cross = ((blue - green), (red - blue), (green - red))
    return tuple(
        channel * math.cos(angle)
        + across / math.sqrt(3) * math.sin(angle)
        + gray * (1 - math.cos(angle))
        for channel, across in zip(color, cross, strict=True)
    )
