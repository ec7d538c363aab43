"""Numbers as people write them: with the digits that mean something, and with their error."""

import math

DASH = "\N{EN DASH}"
"""Stands where there is no number."""
Z975 = 1.96
"""97.5 % point of the normal distribution: a 95 % interval reaches so many standard errors to either side."""
MINUS = "\N{MINUS SIGN}"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def significant(value: float, digits: int = 3) -> str:
    """Value with ``digits`` significant digits and no exponent between 1e-4 and 1e6; ``∞`` and a dash for no number."""
    if math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -5 < exponent < 6:
        return scientific(value, digits=digits)
    # Rounding first: 0.9996 has its first digit one place further left than it seems.
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{value:.{max(0, digits - 1 - exponent)}f}".replace("-", MINUS)


def is_known(value: float, error: float) -> bool:
    """Whether a value differs from zero by more than its standard error leaves to chance, in 95 % of cases."""
    return abs(value) > Z975 * error


def with_error(value: float, error: float | None) -> str:
    """Value and standard error, ``0.142(8)`` or, for errors of one and more, ``14.2 ± 1.3``.

    The error keeps one digit, or two where the first is a 1, since 0.1 and 0.15 are not the same error.
    """
    if error is None or not error > 0:
        return significant(value)
    exponent = math.floor(math.log10(error))
    digits = 2 if error / 10**exponent < 1.95 else 1
    places = digits - 1 - exponent
    if places <= 0 or error >= 1:
        places = max(0, places)
        return f"{value:.{places}f} ± {error:.{places}f}".replace("-", MINUS)
    if abs(value) < 1e-4 and error < 1e-4:
        return scientific(value, error)
    return f"{value:.{places}f}({round(error * 10**places)})".replace("-", MINUS)


def scientific(value: float, error: float | None = None, digits: int = 3) -> str:
    """Value times a power of ten, ``2.5(2) × 10⁻⁵``."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    scale = 10.0**exponent
    mantissa = significant(value / scale, digits) if error is None else with_error(value / scale, error / scale)
    if exponent == 0:
        return mantissa
    return f"({mantissa}) × {power_of_ten(exponent)}" if "±" in mantissa else f"{mantissa} × {power_of_ten(exponent)}"


def power_of_ten(exponent: int) -> str:
    """``10⁻⁵``, in characters that need no mathematical typesetting."""
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def duration(seconds: float) -> str:
    """Seconds in the two largest units that fit: ``42 s``, ``3 min 20 s``, ``1 h 12 min``, ``2 d 4 h``."""
    if 0 < seconds < 10:
        return f"{significant(seconds, 2)} s"
    whole = round(seconds)
    for size, big, part, small in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            n_small = whole % size // part
            return f"{whole // size} {big}" + (f" {n_small} {small}" if n_small else "")
    return f"{whole} s"


def factor(before: float, after: float) -> str:
    """How ``after`` compares with ``before`` in words: ``4.2 times smaller than``, ``about the same as``."""
    if before <= 0 or after <= 0:
        return "to be compared with"
    ratio = before / after
    if 0.95 < ratio < 1.05:
        return "about the same as"
    return (
        f"{significant(ratio, 2)} times smaller than" if ratio > 1 else f"{significant(1 / ratio, 2)} times larger than"
    )


def picoseconds(time_ps: float) -> str:
    """Picoseconds, or nanoseconds where there are many: ``40.0 ps``, ``1.50 ns``."""
    return f"{significant(time_ps / 1000)} ns" if time_ps >= 1000 else f"{significant(time_ps)} ps"


def gap(value_eV: float, reference_eV: float) -> str:
    """How a value compares with its reference: ``9 meV above``, ``equal, within 1 meV, to``."""
    gap_meV = round(1e3 * (value_eV - reference_eV))
    return f"{abs(gap_meV)} meV {'above' if gap_meV > 0 else 'below'}" if gap_meV else "equal, within 1 meV, to"
