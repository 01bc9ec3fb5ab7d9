"""What the model of tools.toml may call."""

from math import asin, cos, radians, sin, sqrt

_EARTH_KM = 6371.0
_PLACES = {  # latitude and longitude in degrees, north and east positive
    "Lima": (-12.05, -77.04),
    "Lisbon": (38.72, -9.14),
    "Nairobi": (-1.29, 36.82),
    "Oslo": (59.91, 10.75),
    "Sydney": (-33.87, 151.21),
    "Tokyo": (35.68, 139.69),
    "Vienna": (48.21, 16.37),
}


def distance_km(start: str, end: str) -> int:
    """Tell the shortest distance over the Earth between two cities, in kilometres.

    Args:
        start: a city's English name
        end: another's
    """
    (north, east), (north_2, east_2) = _place(start), _place(end)
    half = sin((north_2 - north) / 2) ** 2 + cos(north) * cos(north_2) * sin((east_2 - east) / 2) ** 2
    return round(2 * _EARTH_KM * asin(sqrt(half)))


def _place(city: str) -> tuple[float, float]:
    if city not in _PLACES:
        raise ValueError(f"no city {city}; there are: {', '.join(_PLACES)}")
    latitude, longitude = _PLACES[city]
    return radians(latitude), radians(longitude)
