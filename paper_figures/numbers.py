"""Numbers as readers see them: a true minus sign, intervals, percentages, counts."""

MINUS = "\N{MINUS SIGN}"


def plain(value: float, digits: int = 3) -> str:
    """Return `value` with `digits` decimals: 3.441."""
    return f"{value:,.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """Return `value` with its sign: +0.012 or −0.120; a rounded zero has none."""
    text = f"{value:+,.{digits}f}"
    return text[1:] if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)


def percent(share: float, digits: int = 0) -> str:
    """Return `share` as a percentage: 0.331 becomes 33%."""
    return f"{100 * share:,.{digits}f}%".replace("-", MINUS)


def count(value: float) -> str:
    """Return a count of tokens or parameters, shortened: 6,291,456 becomes 6.29M."""
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if abs(value) >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:,.0f}"


def scientific(value: float) -> str:
    """Return floating-point operations in powers of ten: 1.03 × 10¹³."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa} × 10{superscript(int(exponent))}"


def superscript(power: int) -> str:
    """Return `power` in raised digits: 13 becomes ¹³."""
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
