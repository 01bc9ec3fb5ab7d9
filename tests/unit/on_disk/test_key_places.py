"""Keys and their positions outside of memory."""

from __future__ import annotations

from batchrun.on_disk.key_places import KeyPlaces


def test_keys_are_found_at_their_first_positions() -> None:
    """Keys give positions, also after more were added; a key that was never added is left out. Any text is a key."""
    keys = KeyPlaces()
    for number in range(2_500):
        keys.append(f"key {number}")
    assert keys.places(["key 2499", "no", "key 7"]) == {"key 2499": 2_499, "key 7": 7}
    for key in ("\ud800", "", "key 7"):
        keys.append(key)
    assert keys.places(["\ud800", "", "key 7"]) == {"\ud800": 2_500, "": 2_501, "key 7": 7}
    assert (keys.place("no"), len(keys), list(keys)[-2:]) == (None, 2_503, ["", "key 7"])
