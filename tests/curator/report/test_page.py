"""The report as a page, of campaigns in every state."""

import html
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

from curator.report.page import write_report

WriteCampaign = Callable[..., Path]
FIGURES = (
    "force_error",
    "barrier",
    "labels_by_reason",
    "barrier_path",
    "force_parity",
    "energy_parity",
    "learning_curve",
    "forgetting",
    "calibration",
    "selection_map",
    "mean_squared_displacement",
    "arrhenius",
    "activation_energy",
    "diffusivities",
    "timeline",
)


class Outline(HTMLParser):
    """Checks that tags close in the order in which they opened, and remembers what matters here."""

    VOID = frozenset({"meta", "br", "img", "input", "link", "hr"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.loads: list[str] = []
        self.figures: dict[str, str] = {}
        self.drawn: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        held = dict(attrs)
        if "id" in held:
            self.ids.append(str(held["id"]))
        self.loads += [str(held[name]) for name in ("src", "href", "srcset", "data", "action") if name in held]
        if tag == "figure":
            self.figures[str(held["id"]).removeprefix("fig-")] = ""
        if tag == "svg":
            self.drawn.add(list(self.figures)[-1])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> closes something else at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "figure" in self.open and "svg" not in self.open:
            self.figures[list(self.figures)[-1]] += data


def outline(page: str) -> Outline:
    parsed = Outline()
    parsed.feed(page)
    parsed.close()
    assert not parsed.open
    return parsed


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, write_campaign: WriteCampaign) -> Path:
    return write_report(write_campaign(tmp_path_factory.mktemp("campaign") / "lif"))


def test_a_finished_campaign_shows_every_figure(finished: Path) -> None:
    page = outline(finished.read_text())
    assert tuple(page.figures) == FIGURES
    assert page.drawn == set(FIGURES)
    assert finished.stat().st_size < 2e6
    assert [path.name for path in finished.parent.iterdir() if path.name.startswith(".")] == []


def test_the_page_needs_nothing_but_itself(finished: Path) -> None:
    page = finished.read_text()
    parsed = outline(page)
    assert all(target.startswith(("#", "data:image/png;base64,")) for target in parsed.loads)
    assert not {"script", "link", "iframe", "object", "embed"} & set(parsed.tags)
    assert "http" not in page
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_identifiers_are_unique_and_every_reference_has_its_target(finished: Path) -> None:
    page = finished.read_text()
    ids = outline(page).ids
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'(?:href="|url\()#([^")]+)', page))
    assert references <= set(ids)


def test_the_verdict_and_the_headline_numbers_come_first(finished: Path) -> None:
    text = " ".join(outline(finished.read_text()).text.split())
    order = [
        "Converged",
        "The diffusion of Li has converged within 50 meV.",
        "25 meV is allowed.",
        "nothing more is needed",
        "Activation energy 0.145(8) eV",
        "1 meV above the reference, 0.126 eV",
        "5.5 times smaller than the foundation's 0.131",
        "106 of 300",
        "What did each label buy?",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert "1.69(10) × 10⁻⁴" in text
    assert "< 1.9 " in text
    assert "walltime: worker lost" in text
    assert "a force of 41 eV/Å after 1.2 ps" in text


@pytest.mark.parametrize(
    ("verdict", "word", "purchase"),
    [
        ("not_yet", "Not converged yet", "Next purchase: 16 labels."),
        (
            "undetermined",
            "Undetermined",
            "write measure.diffusion.duration_ps: [750, 250, 350] with temperatures_K: [500, 700, 1000].",
        ),
    ],
)
def test_an_open_campaign_says_what_to_buy_next(
    tmp_path: Path, verdict: str, word: str, purchase: str, write_campaign: WriteCampaign
) -> None:
    page = outline(write_report(write_campaign(tmp_path / "lif", n_rounds=1, verdict=verdict)).read_text())
    assert word in page.text
    assert purchase in page.text
    missing = set(FIGURES) - page.drawn
    assert missing == {"calibration", "mean_squared_displacement", "arrhenius", "activation_energy", "diffusivities"}
    assert "bought when the barrier has settled" in page.figures["arrhenius"]


def test_a_campaign_without_a_round_explains_every_gap(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=0, verdict=None)
    page = outline(write_report(folder, tmp_path / "elsewhere" / "page.html").read_text())
    assert page.drawn == set()
    assert "No verdict yet" in page.text
    for said in page.figures.values():
        assert re.search(r"\bNo \w+[^.]*(yet|measured)", said), said


def test_a_folder_with_nothing_but_the_campaign_file_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "campaign.yaml").write_text("system: {structure: lif-interstitial}\nmeasure: {diffusion: null}\n")
    page = outline(write_report(tmp_path).read_text())
    assert "measure.diffusion is switched off" in page.figures["arrhenius"]


def test_a_barrier_alone_is_not_called_diffusion(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=2)
    settings = yaml.safe_load((folder / "resolved.yaml").read_text())
    settings["campaign"]["measure"]["diffusion"] = None
    (folder / "resolved.yaml").write_text(yaml.safe_dump(settings))
    page = outline(write_report(folder).read_text())
    assert "The migration barrier of Li has converged within 25 meV." in page.text
    assert "The diffusion of Li has converged" not in page.text


def test_broken_files_are_told_and_the_rest_is_drawn(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=2, verdict="not_yet")
    (folder / "rounds" / "001" / "evidence.npz").write_bytes(b"PK")
    (folder / "campaign.json").write_text('{"name": "lif", ')
    page = outline(write_report(folder).read_text())
    assert "001/evidence.npz could not be read" in page.text
    assert "campaign.json is not valid JSON" in page.text
    assert {"force_error", "force_parity", "timeline"} <= page.drawn
    assert "Round 0" in page.figures["force_parity"]


def test_what_users_write_is_text_and_never_markup(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    nasty = "<script>alert('$x_1$ & \"y\"')</script>"
    folder = write_campaign(tmp_path / "lif", n_rounds=3, mobile=nasty)
    campaign = json.loads((folder / "campaign.json").read_text())
    campaign |= {"name": nasty, "reasons": [nasty], "theory": nasty}
    for row in campaign["rounds"]:
        row["labels_by_reason"][nasty] = 3
    (folder / "campaign.json").write_text(json.dumps(campaign))
    with (folder / "log.jsonl").open("a") as log:
        about = {"event": "task_failed", "round": 2, "role": nasty, "stage": nasty, "error": nasty, "seconds": 90}
        log.write(json.dumps({"time": "2026-03-02T09:00:00+00:00"} | about) + "\n")
    page = outline(write_report(folder).read_text())
    assert "script" not in page.tags
    assert page.text.count(nasty) > 6
    assert page.drawn == set(FIGURES)


def test_large_scatters_do_not_make_a_large_page(tmp_path: Path, write_campaign: WriteCampaign) -> None:
    folder = write_campaign(tmp_path / "lif", n_rounds=1, verdict="not_yet")
    path = folder / "rounds" / "000" / "evidence.npz"
    rng = np.random.default_rng(3)
    forces = rng.normal(size=(40_000, 3))
    held = dict(np.load(path)) | {f"test_forces_{name}": forces for name in ("reference", "foundation", "model")}
    held["map_xy"], held["map_reason"] = rng.normal(size=(20_000, 2)), np.full(20_000, "")
    np.savez(path, **held)
    assert write_report(folder).stat().st_size < 1e6


PROBE = """
<body style="margin:0"><iframe id="page" style="border:0;width:WIDTHpx;height:900px" srcdoc="PAGE"></iframe>
<script>
onload = () => {
  const page = document.getElementById("page").contentDocument;
  const figures = [...page.querySelectorAll("figure")].map(figure => {
    const svg = figure.querySelector("svg"), at = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
    const marks = [...svg.querySelectorAll("path, use, image")];
    const shown = marks.filter(mark => { const r = mark.getBoundingClientRect(); return r.width + r.height > 1; });
    const words = [...svg.querySelectorAll("text")];
    const free = [...shown, ...words].filter(mark => !mark.closest("[clip-path], defs"));
    const boxes = free.map(mark => mark.getBoundingClientRect());
    const sides = b => [at.left - b.left, b.right - at.right, at.top - b.top, b.bottom - at.bottom];
    return {
      id: figure.id, width: at.width, height: at.height, n_shown: shown.length, n_words: words.length,
      font_px: Math.min(...words.map(word => parseFloat(getComputedStyle(word).fontSize) * at.width / view.width)),
      overhang_px: Math.max(...boxes.flatMap(sides)),
    };
  });
  const root = page.documentElement;
  const result = {figures, scroll: root.scrollWidth, client: root.clientWidth};
  document.body.innerHTML = "<pre id='result'>" + JSON.stringify(result) + "</pre>";
};
</script></body>
"""


@pytest.mark.parametrize("width", [1366, 390])
def test_a_browser_draws_every_figure(finished: Path, tmp_path: Path, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        message = "no chromium on the path; install it to see the report drawn"
        if "chromium" in os.environ.get("CURATOR_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    probe = tmp_path / "probe.html"
    page = html.escape(finished.read_text(), quote=True)
    probe.write_text(PROBE.replace("WIDTH", str(width)).replace("PAGE", page))
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += f" --disable-component-update --disable-sync --window-size=1600,1000 --user-data-dir={tmp_path}/profile"
    command = [browser, *flags.split(), "--dump-dom", probe.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    found = re.search(r"<pre id=\"result\">(.*?)</pre>", dom)
    assert found, dom[-500:]
    result = json.loads(html.unescape(found[1]))
    assert [figure["id"] for figure in result["figures"]] == [f"fig-{name}" for name in FIGURES]
    for figure in result["figures"]:
        assert figure["width"] > 300, figure
        assert figure["height"] > 150, figure
        assert figure["n_shown"] > 10, figure
        assert figure["n_words"] > 5, figure
        assert figure["font_px"] >= 7.5, figure
        assert figure["overhang_px"] < 4, figure
    assert result["scroll"] <= result["client"], "the page scrolls sideways"
