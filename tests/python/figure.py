"""Figures of results: the validation loss against something on a logarithmic axis, as an SVG."""

import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 860, 520, 70, 680, 50, 460


def distance(span):
    """Between two marks of an axis: 1, 2 or 5 times a power of ten, about six of them."""
    power = 10 ** math.floor(math.log10(span / 6))
    digit = span / 6 / power
    return power * (1 if digit < 1.5 else 2 if digit < 3.5 else 5 if digit < 7.5 else 10)


def chart(title, beneath, lines, marks):
    """An SVG of lines, each a name and its points (x, loss, least, largest), with `marks` (x, text) below."""
    ends = [loss for _, points in lines for _, *losses in points for loss in losses]
    low, high = min(ends), max(ends)
    margin = 0.04 * (high - low) or 0.1
    low, high = low - margin, high + margin
    xs = [x for x, _ in marks] + [point[0] for _, points in lines for point in points]
    first, last = math.log10(min(xs)), math.log10(max(xs))
    across = lambda x: LEFT + (RIGHT - LEFT) * (0.02 + 0.96 * (math.log10(x) - first) / ((last - first) or 1))
    up = lambda loss: BOTTOM - (BOTTOM - TOP) * (loss - low) / (high - low)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' width='{WIDTH}' height='{HEIGHT}' "
        "font-family='sans-serif' font-size='13' fill='#333'>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#fff'/>",
        f"<text x='{LEFT}' y='28' font-size='16'>{title}</text>",
    ]
    for x, text in marks:
        parts.append(f"<path d='M{across(x):.1f} {BOTTOM}v5' stroke='#333'/>")
        parts.append(f"<text x='{across(x):.1f}' y='{BOTTOM + 20}' text-anchor='middle'>{text}</text>")
    apart = distance(high - low)
    for i in range(math.ceil(low / apart), math.floor(high / apart) + 1):
        y = up(i * apart)
        parts.append(f"<path d='M{LEFT} {y:.1f}h-5' stroke='#333'/><path d='M{LEFT} {y:.1f}H{RIGHT}' stroke='#ddd'/>")
        parts.append(f"<text x='{LEFT - 8}' y='{y + 4:.1f}' text-anchor='end'>{i * apart:.6g}</text>")
    parts.append(f"<path d='M{LEFT} {TOP}V{BOTTOM}H{RIGHT}' fill='none' stroke='#333'/>")
    middle = (TOP + BOTTOM) // 2
    parts.append(f"<text x='{(LEFT + RIGHT) // 2}' y='{BOTTOM + 44}' text-anchor='middle'>{beneath}</text>")
    parts.append(f"<text x='18' y='{middle}' text-anchor='middle' transform='rotate(-90 18 {middle})'>validation loss, nats a token</text>")
    for number, (name, points) in enumerate(lines):
        # Colours as far from each other as the golden angle makes them, lighter and darker in turn.
        colour = f"hsl({(number * 137.508 + 210) % 360:.0f},70%,{42 if number % 2 == 0 else 58}%)"
        line = "L".join(f"{across(x):.1f} {up(loss):.1f}" for x, loss, *_ in points)
        parts.append(f"<g stroke='{colour}' fill='{colour}'><path d='M{line}' fill='none' stroke-width='1.8'/>")
        for x, loss, least, most in points:
            parts.append(f"<path d='M{across(x):.1f} {up(least):.1f}V{up(most):.1f}' stroke-width='1'/>")
            parts.append(f"<circle cx='{across(x):.1f}' cy='{up(loss):.1f}' r='2.5'/>")
        y = TOP + 8 + 22 * number
        parts.append(f"<circle cx='{RIGHT + 24}' cy='{y}' r='6'/></g>")
        parts.append(f"<text x='{RIGHT + 38}' y='{y + 4}'>{name}</text>")
    return "\n".join([*parts, "</svg>", ""])
