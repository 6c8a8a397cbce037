"""Model facts and card: what it is for, what goes in and out, how good it is, where it fails."""

from fetalflow.dossier.chapter import Block, Chapter, Heading, Table, Text, Words
from fetalflow.dossier.chapters.failures import failures
from fetalflow.dossier.chapters.performance import performance
from fetalflow.dossier.evidence import Evidence, Figure
from fetalflow.dossier.gathering import task_words
from fetalflow.dossier.gathering.registered import VERSION
from fetalflow.dossier.statements import stated

CONFIG, PARAMS = "package/config.json", "run/params.yaml"
STATED = ("maker", "contact", "intended_use", "users", "population", "inputs", "outputs", "contraindications", "limits")
TRAINING = (  # key of the configuration, words
    ("epochs", "epochs of training"),
    ("kept_epoch", "epoch that was kept"),
    ("seed", "random seed"),
    ("device", "trained on"),
    ("precision", "arithmetic"),
)
LIMITS = (  # key of `extract` in the configuration, words
    ("max_bytes", "bytes of a file"),
    ("max_frames", "frames of a cine"),
    ("max_pixels", "pixels of a frame"),
    ("max_cine_pixels", "pixels of a whole cine"),
)


def chapter(evidence: Evidence) -> Chapter:
    blocks = [
        Heading("What the maker states"),
        *(stated(evidence, key) for key in (*STATED, "benefit")),
        *synthetic_warning(evidence),
        *_model(evidence),
        *_input(evidence),
        *performance(evidence, variant_of(evidence)),
        *failures(evidence, variant_of(evidence)),
    ]
    return Chapter("facts", "Model facts and card", tuple(blocks))


def variant_of(evidence: Evidence) -> str:
    return str(evidence.figure(VERSION, "variant").value)


def is_synthetic(evidence: Evidence) -> bool:
    """Whether the settings of the run name the synthetic hospital as the source of the task's data."""
    params = evidence.yaml(PARAMS) if evidence.has(PARAMS) else None
    phantoms = params.get("phantoms") if isinstance(params, dict) else None
    return evidence.figure(VERSION, "task").value in (phantoms or ())


def synthetic_warning(evidence: Evidence) -> list[Block]:
    text = (
        "The images are synthetic: software made them, and no patient was examined. So no figure of this dossier says "
    )
    return [Words(f"{text}anything about real patients.", "warning")] if is_synthetic(evidence) else []


def _model(evidence: Evidence) -> list[Block]:
    rows: list[list[Text]] = [
        ["registered as", evidence.figure(VERSION, "model")],
        ["version", evidence.figure(VERSION, "version")],
        ["aliases now", _listed(evidence, VERSION, "aliases")],
        ["registered at (UTC)", evidence.figure(VERSION, "registered")],
        ["task", evidence.figure(task_words.FILE, "title")],
        ["paper of the task", evidence.figure(task_words.FILE, "source")],
        ["network", evidence.figure(CONFIG, "network")],
        ["the network is from", evidence.figure(task_words.FILE, "network_source")],
        ["trainable parameters", evidence.figure(CONFIG, "weights", "trainable_parameters")],
        ["SHA-256 of the weights", evidence.figure(CONFIG, "weights", "sha256")],
        ["SHA-256 of the package", evidence.figure(VERSION, "tags", "fetalflow.package")],
        *([words, evidence.figure(CONFIG, "training", key)] for key, words in TRAINING),
    ]
    return [Heading("The model"), Table(["fact", "value"], rows)]


def _input(evidence: Evidence) -> list[Block]:
    size, extract = evidence.figure(CONFIG, "size"), "extract"
    rows: list[list[Text]] = [
        ["frames that are answered together", evidence.figure(CONFIG, "frames")],
        ["step between these frames (1: no frame is left out)", evidence.figure(CONFIG, extract, "every")],
        ["frame rate that cines are brought to", _frame_rate(evidence)],
        ["size of a frame in the network", (size, " x ", size, " px")],
        ["marks on the image are removed", evidence.figure(CONFIG, extract, "mask_overlays")],
        ["the image outside of the sector is removed", evidence.figure(CONFIG, extract, "mask_sector")],
    ]
    return [
        Heading("What goes in"),
        Words("Grey frames of an ultrasound recording. Their values are divided so that they lie between 0 and 1."),
        Table(["fact", "value"], rows),
        Heading("What comes out"),
        Words(("A probability for each of these labels: ", _listed(evidence, CONFIG, "labels"), ".")),
        Words(
            "It has no answer for something else: a recording of anything else gets one of these labels as well. The "
            'figure "unfamiliarity" above 1 says that a recording is unlike the training data.'
        ),
        *_refuses(evidence),
    ]


def _frame_rate(evidence: Evidence) -> Text:
    rate = evidence.figure(CONFIG, "extract", "fps", unit="per second")
    given = evidence.figure(CONFIG, "extract").value
    return "as it was recorded" if isinstance(given, dict) and given.get("fps", 0) is None else rate


def _refuses(evidence: Evidence) -> list[Block]:
    rows: list[list[Text]] = [
        [words, evidence.figure(CONFIG, "extract", key)]
        for key, words in LIMITS
        if evidence.figure(CONFIG, "extract", key).value is not None
    ]
    words = "It refuses a file that cannot be read, that is cut off, or that is above a limit of its package."
    return [
        Heading("What it refuses"),
        Words(words),
        *([Table(["limit of", "at most"], rows)] if rows else [Words("No limits are on record.")]),
    ]


def _listed(evidence: Evidence, name: str, key: str) -> Figure:
    """A list of texts in a file, as one figure."""
    found = evidence.figure(name, key).value
    return evidence.counted(", ".join(map(str, found)) or "none" if isinstance(found, list) else None, name, key)
