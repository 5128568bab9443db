"""`medvlp app`: what the page asks, what the server refuses, and the page itself in a browser."""

import base64
import io
import json
import shutil
import socket
import sys
import tempfile
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from medvlp.app.command import app, listen
from medvlp.app.desk import KEPT, Desk
from medvlp.errors import LeftOutError, UserError
from medvlp.inference.model import DEFAULT_FINDINGS, Model
from tests.support.trained import make_checkpoint

pytestmark = pytest.mark.slow

server = pytest.importorskip("medvlp.app.server")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    weights = make_checkpoint(tmp_path_factory.mktemp("weights"))
    return Desk(Model.load(weights), weights.name)


@pytest.fixture
def client(desk):
    testclient = pytest.importorskip("starlette.testclient")
    return testclient.TestClient(server.make_server(desk, ["localhost"]), base_url="http://localhost:7860")


def radiograph(side=300):
    """Return the content of a grey PNG."""
    y, x = np.mgrid[:side, : side // 2]
    file = io.BytesIO()
    Image.fromarray(((3 * x + y) % 200 + 20).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def pixels(url):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,")))))


def test_an_image_is_shown_scored_and_explained(client, desk):
    seen = client.post("/image", content=radiograph()).json()
    assert np.array_equal(pixels(seen["image"]), np.asarray(Image.open(io.BytesIO(radiograph()))))
    # 300 x 150 in a square of 40, the model seeing the central 32: of the width more than there is.
    assert seen["window"] == pytest.approx([-0.3, 0.1, 1.3, 0.9])
    answer = client.post(
        "/scores", json={"key": seen["key"], "findings": "edema, left pleural effusion\n\nedema;"}
    ).json()
    assert [text for text, _ in answer["findings"]] == ["edema", "left pleural effusion"]
    image = desk.model.read_many([save(radiograph())])
    scores = desk.model.scores(image, ["edema", "left pleural effusion"])[0].tolist()
    assert [score for _, score in answer["findings"]] == pytest.approx(scores)
    assert [text for text, _ in answer["tags"]] == desk.model.tag_names
    assert [score for _, score in answer["tags"]] == pytest.approx(desk.model.tags(image)[0].tolist())
    for source in client.get("/about").json()["sources"]:
        heat = client.post("/heat_map", json={"key": seen["key"], "text": "effusion", "source": source}).json()
        assert pixels(heat["image"]).shape == (300, 150, 4)
        # Of one place only, where the crop is that small.
        assert heat["low"] <= heat["high"]
        # Not outside of what the model sees.
        assert not pixels(heat["image"])[:29, :, 3].any()


def save(content):
    path = f"{tempfile.mkdtemp()}/image.png"
    with open(path, "wb") as file:
        file.write(content)
    return path


def test_large_images_are_shown_smaller(desk):
    assert max(pixels(desk.put(radiograph(3000))["image"]).shape) == 1200


def test_nothing_is_kept_on_disk(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert client.post("/image", content=radiograph()).status_code == 200
    assert client.post("/image", content=b"no image").status_code == 422
    assert client.post("/synthetic").status_code == 200
    assert not list(tmp_path.iterdir())


def test_only_the_last_images_are_kept_in_memory(desk):
    first, second, *_ = [desk.put(radiograph())["key"] for _ in range(KEPT)]
    desk.scores(first, "edema")
    desk.put(radiograph())
    assert desk.scores(first, "edema")["findings"]
    with pytest.raises(UserError, match="open it again"):
        desk.scores(second, "edema")


def test_a_synthetic_image_says_what_was_drawn(client):
    seen = client.post("/synthetic").json()
    assert seen["drawn"]
    assert max(pixels(seen["image"]).shape) == 1200


@pytest.mark.parametrize("content", [b"", b"no image", radiograph()[:-500]])
def test_files_that_cannot_be_read_are_explained(client, desk, content):
    response = client.post("/image", content=content)
    assert response.status_code == 422
    assert response.json()["error"].startswith("This file cannot be read: ")
    assert tempfile.gettempdir() not in response.text
    with pytest.raises(LeftOutError):
        desk.put(content)


def test_files_that_are_too_large_are_refused(client, monkeypatch):
    monkeypatch.setattr(server, "LARGEST", 1000)
    assert client.post("/image", content=radiograph()).status_code == 413


def test_questions_that_are_too_long_or_too_deep_are_refused(client):
    assert client.post("/scores", content=b" " * (server.LONGEST + 1)).status_code == 413
    assert client.post("/scores", content=b"[" * 100_000).status_code == 400


@pytest.mark.parametrize(
    ("path", "content", "status", "words"),
    [
        ("/scores", {"key": "none", "findings": "a"}, 422, "open it again"),
        ("/scores", {"key": "none"}, 400, "is expected"),
        ("/scores", ["none"], 400, "is expected"),
        ("/scores", {"findings": "a" * 301}, 422, "t most"),
        ("/scores", {"findings": ",".join(map(str, range(101)))}, 422, "t most"),
        ("/heat_map", {"text": "left", "source": "tag"}, 422, "names no tag"),
        ("/heat_map", {"text": "left", "source": "magic"}, 422, "no heat maps"),
    ],
)
def test_questions_that_have_no_answer_are_explained(client, path, content, status, words):
    if isinstance(content, dict) and "key" not in content:
        content = {"key": client.post("/image", content=radiograph()).json()["key"], **content}
    response = client.post(path, json=content)
    assert (response.status_code, words in response.json()["error"]) == (status, True)


def test_no_findings_are_fine(client):
    key = client.post("/image", content=radiograph()).json()["key"]
    assert client.post("/scores", json={"key": key, "findings": " , \n"}).json()["findings"] == []


@pytest.mark.parametrize("text", ["🫁", "\ud800", "<script>", "%s {}"])
def test_any_words_may_be_asked_for(client, text):
    key = client.post("/image", content=radiograph()).json()["key"]
    for path, given in (("/scores", {"findings": text}), ("/heat_map", {"text": text, "source": "region"})):
        assert client.post(path, content=json.dumps({"key": key, **given})).status_code == 200


def test_models_without_scores_have_heat_maps(tmp_path):
    only_regions = Desk(Model.load(make_checkpoint(tmp_path, names=("region",))), "regions")
    key = only_regions.put(radiograph())["key"]
    assert only_regions.scores(key, "edema") == {"findings": [("edema", None)], "tags": []}
    assert only_regions.heat_map(key, "edema", "region")["image"]
    assert list(only_regions.about()["sources"]) == ["region"]


def test_other_pages_are_refused(client):
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"}):
        assert client.post("/image", content=radiograph(), headers=headers).status_code == 403
    assert client.get("/about", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/about", headers={"Origin": "http://localhost:7860"}).status_code == 200


def test_responses_let_the_browser_load_nothing_from_elsewhere_and_keep_nothing(client):
    for path in ("/", "/page.js", "/page.css", "/about", "/nothing"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
    for name in ("page.html", "page.js", "page.css"):
        text = (server.FOLDER / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert "//" not in text.replace("/* ", "").replace(" */", "")


def test_what_cannot_be_listened_at_is_an_error(tmp_path):
    with listen("127.0.0.1", 0) as taken, pytest.raises(UserError, match=r"--port \d+: the server cannot listen there"):
        app(weights=tmp_path / "none.ckpt", port=taken.getsockname()[1])
    for host, port in (("127.0.0.1", 70000), ("300.1.1.1", 0)):
        with pytest.raises(UserError, match="the server cannot listen there"):
            listen(host, port)


def test_without_the_extra_the_error_names_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UserError, match=r"needs the package 'uvicorn': pip install 'medvlp\[app\]'"):
        app(weights=tmp_path / "none.ckpt")


@pytest.fixture(scope="module")
def connected():
    """The addresses that this process has connected to."""
    addresses = []
    connect = socket.socket.connect

    def note(self, address):
        addresses.append(address)
        return connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", note)
        yield addresses


@pytest.fixture(scope="module")
def page(desk, connected):
    """The page in a browser, and the addresses that it has asked for."""
    uvicorn = pytest.importorskip("uvicorn")
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with listen("127.0.0.1", 0) as listening:
        hosts = ["127.0.0.1", "localhost"]
        running = uvicorn.Server(uvicorn.Config(server.make_server(desk, hosts), log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
        thread.start()
        with playwright.sync_playwright() as started:
            browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            opened = browser.new_page(viewport={"width": 1400, "height": 900})
            opened.set_default_timeout(20_000)
            opened.asked, opened.problems = [], []
            opened.on("request", lambda request: opened.asked.append(request.url))
            opened.on("pageerror", lambda error: opened.problems.append(str(error)))
            opened.goto(f"http://localhost:{listening.getsockname()[1]}")
            yield opened
            browser.close()
        running.should_exit = True
        thread.join()


def drop(page, name, content):
    page.set_input_files("#file", {"name": name, "mimeType": "application/octet-stream", "buffer": content})


def test_page_from_file_to_heat_map(page, desk):
    assert "Not for clinical use" in page.inner_text("header")
    assert page.input_value("#findings") == ", ".join(DEFAULT_FINDINGS)
    drop(page, "image.png", radiograph())
    page.wait_for_selector("#scores li")
    assert page.locator("#scores li").count() == len(DEFAULT_FINDINGS)
    scores = [float(text) for text in page.locator("#scores output").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)

    page.fill("#findings", "left pleural effusion\n<b>edema</b>")
    page.click("text=Ask")
    page.wait_for_selector("#scores li:has-text('left pleural effusion')")
    assert "<b>edema</b>" in page.inner_text("#scores")
    page.click("#scores li button:has-text('left pleural effusion')")
    page.wait_for_selector("#heat:not([hidden])")
    assert page.inner_text("#caption") == "left pleural effusion"
    box, over = (page.locator(name).bounding_box() for name in ("#radiograph", "#heat"))
    assert over == pytest.approx(box)
    scale = page.locator("#scale").bounding_box()
    assert scale["height"] <= page.locator("#stage").bounding_box()["height"]
    assert float(page.inner_text("#low")) < float(page.inner_text("#high"))
    # A second click shows the radiograph alone again.
    page.click("#scores li button:has-text('left pleural effusion')")
    page.wait_for_selector("#heat", state="hidden")

    page.click("#tags li button")
    page.wait_for_selector("#heat:not([hidden])")
    assert "tag decoder" in page.inner_text("#meaning")
    assert page.is_checked("#sources [value=tag]")
    page.check("#sources [value=region]")
    page.wait_for_selector("#meaning:has-text('space of regions')")
    page.click("text=Show all")
    assert page.locator("#tags li").count() == len(desk.model.tag_names)
    assert not page.problems


def test_page_says_what_is_wrong(page):
    drop(page, "notes.txt", b"no image")
    page.wait_for_selector("#message:not([hidden])")
    assert page.inner_text("#message") == "This file cannot be read: not a known format."
    # The next image is as good as ever.
    drop(page, "image.png", radiograph())
    page.wait_for_selector("#message", state="hidden")


def test_page_draws_a_synthetic_image(page):
    drop(page, "image.png", radiograph())
    page.wait_for_selector("#scores li")
    page.click("text=Another image")
    page.click("text=Draw a synthetic one")
    page.wait_for_selector("#notes:has-text('A synthetic image, drawn with')")
    assert not page.problems


def test_page_does_not_show_an_image_that_was_left(page):
    page.evaluate("another()")
    with page.expect_response("**/image"):
        page.route("**/image", lambda route: (page.wait_for_timeout(300), route.continue_()))
        drop(page, "image.png", radiograph())
        page.evaluate("another()")
    page.unroute("**/image")
    page.wait_for_selector("body:not(.busy)")
    assert page.is_visible("#drop")
    assert not page.is_visible("#stage")
    assert not page.problems


def test_page_fits_a_telephone(page):
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_page_and_server_asked_this_machine_alone(page, connected):
    assert all(not isinstance(address, tuple) or address[0] in ("127.0.0.1", "::1") for address in connected)
    hosts = {urlsplit(url).hostname for url in page.asked if not url.startswith("data:")}
    assert hosts == {"localhost"}
