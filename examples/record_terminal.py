"""Records commands in a terminal as an animated SVG, such as README.md shows.

    pip install pyte
    python examples/record_terminal.py terminal.svg "nsa ask a.pdf 'When?'" "nsa ask a.pdf 'Who?'"

Each command is run in a pseudo-terminal, and its screen is drawn. Time is shortened: each screen
that differs from the one before is shown for a moment, the last one of a command longer. The
picture begins with its last screen, so that it shows its content before it moves.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from html import escape
from pathlib import Path

import pyte

COLUMNS, ROWS = 96, 24
LINE, CHARACTER, MARGIN = 18, 8.43, 16
MOST_FRAMES, SECONDS, LAST_SECONDS = 12, 0.7, 4.0
COLORS = {"default": "#d8dee9", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b"}
COLORS |= {"blue": "#61afef", "magenta": "#c678dd", "cyan": "#56b6c2", "black": "#5c6370"}
STILL = "@media (prefers-reduced-motion:reduce){g{animation:none!important}}"
NARROW = "font: 14px ui-monospace, Menlo, Consolas, monospace"

Frame = tuple[str, ...]


def shown(screen: pyte.Screen) -> Frame:
    """The lines of a screen as SVG text, with a part for each run of one style."""
    lines = []
    for row in range(ROWS):
        runs: list[tuple[str, str]] = []
        for column in range(COLUMNS):
            cell = screen.buffer[row][column]
            color = cell.fg if cell.fg in COLORS else f"#{cell.fg}"
            style = f"fill:{COLORS.get(color, color)}"
            style += ";font-weight:bold" if cell.bold else ""
            if runs and runs[-1][0] == style:
                runs[-1] = (style, runs[-1][1] + cell.data)
            else:
                runs.append((style, cell.data))
        kept = [f'<tspan style="{style}">{escape(text)}</tspan>' for style, text in runs]
        filled = "".join(text for _, text in runs).strip()
        lines.append("".join(kept) if filled else "")
    return tuple(lines)


def record(command: str, screen: pyte.Screen, stream: pyte.ByteStream) -> list[Frame]:
    """Run a command and return the screens that it makes, the last one included."""
    stream.feed(f"\x1b[1;32m$\x1b[0m {command}\r\n".encode())
    frames = [shown(screen)]
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.execvp("sh", ["sh", "-c", command])
    looked = time.monotonic()
    while True:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        try:
            data = os.read(terminal, 65536) if ready else b""
        except OSError:  # the command has ended
            break
        if ready and not data:
            break
        stream.feed(data)
        if time.monotonic() - looked > 0.5:
            looked = time.monotonic()
            frames.append(shown(screen))
    os.waitpid(child, 0)
    frames.append(shown(screen))
    return frames


def thinned(frames: list[Frame]) -> list[Frame]:
    """Some of the frames, evenly spread, the first and the last among them."""
    different = [each for n, each in enumerate(frames) if n == 0 or each != frames[n - 1]]
    if len(different) <= MOST_FRAMES:
        return different
    step = (len(different) - 1) / (MOST_FRAMES - 1)
    return [different[round(n * step)] for n in range(MOST_FRAMES)]


def drawn(parts: list[list[Frame]]) -> str:
    """An SVG that shows the last frame, and then all one after the other.

    Without animation it shows the last one.
    """
    times = [LAST_SECONDS]
    frames = [parts[-1][-1]]
    for part in parts:
        frames += part
        times += [SECONDS] * (len(part) - 1) + [LAST_SECONDS]
    total = sum(times)
    used = max(n + 1 for frame in frames for n, line in enumerate(frame) if line)
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, used * LINE + 2 * MARGIN
    rules, groups, begun = [], [], 0.0
    for number, (frame, seconds) in enumerate(zip(frames, times, strict=True)):
        first, last = 100 * begun / total, 100 * (begun + seconds) / total
        begun += seconds
        end = "" if last > 99.99 else f"{last:.3f}%{{visibility:hidden}}"
        before = "0%{visibility:hidden}" if number else ""
        rules.append(f"@keyframes f{number}{{{before}{first:.3f}%{{visibility:visible}}{end}}}")
        still = "visible" if number == len(frames) - 1 else "hidden"
        style = f"visibility:{still};animation:f{number} {total:.1f}s step-end infinite"
        lines = "".join(
            f'<text x="{MARGIN}" y="{MARGIN + (n + 0.8) * LINE:.1f}" xml:space="preserve">{line}'
            "</text>"
            for n, line in enumerate(frame)
            if line
        )
        groups.append(f'<g style="{style}">{lines}</g>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}">'
        f"<style>text{{{NARROW}}}{STILL}{''.join(rules)}</style>"
        f'<rect width="100%" height="100%" rx="8" fill="#1e222a"/>{"".join(groups)}</svg>\n'
    )


def main(path: str, commands: list[str]) -> None:
    """Record the commands, one after the other on one screen."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    parts = [thinned(record(command, screen, stream)) for command in commands]
    Path(path).write_text(drawn(parts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
