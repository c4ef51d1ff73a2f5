"""Where a sentence may end and what a name looks like: plain rules that say when they cannot be sure."""

import re
import unicodedata
from collections.abc import Iterator, Sequence

#: What ends a sentence, in any script; those after which no space is needed.
STOPS, UNSPACED = ".!?…。！？।॥۔؟։።။", "。！？।॥"
_QUOTES = dict(zip("\"'“‘«„「『‹`”", "\"'”’»“」』›`”", strict=True))
_BOUNDARY = re.compile(rf"[{STOPS}]+[\"'”’»)\]]*\s+(?=\S)|[{UNSPACED}]+[」』”]*(?=[^\s{UNSPACED}」』”])|\s*\n\s*")
#: A stop inside a text, without which it is one sentence.
_INSIDE = re.compile(rf"[{STOPS}][^\w\s]*\s+\S|[{UNSPACED}].|\n")
_NUMBERED = re.compile(r"^[ \t]*\d{1,3}[.)][ \t]+", re.MULTILINE)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
_MARKS = (
    (re.compile(r"(?<!\w)(\*\*|__|~~|[*_`])(?=[^\s*_`~])([^\n]+?)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"\[([^\]\n]+)\]\((?:https?:|/|#)[^)\s]*\)"), r"\1"),
    (re.compile(r"</?(?:b|i|u|em|strong)>"), ""),
    (re.compile(r"^[ \t]*(?:[-*•>]|#{1,6})[ \t]+", re.MULTILINE), ""),
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: What stands before a name and never ends a sentence; what ends a name, and may end a sentence too.
_TITLES = _words("""dr mr mrs ms messrs prof st ste sta mt ft pt sgt capt cpt col gen gov hon lt lieut maj cpl
    pvt cmdr adm rev fr msgr sen rep pres supt insp hr frl mme mlle mm sr sra srta dra dña sto fra bp abp""")
#: A title and the name that it stands before, which are one.
TITLED = (
    "(?:" + "|".join(sorted((each.title() for each in _TITLES if each.isascii()), key=len, reverse=True))
    + r"|Professor|Doctor|Sir|Dame|Frau|Herr)\.?\s+(?=[^\W\d_a-z])"
)  # fmt: skip
_SUFFIXES = _words("jr sr inc ltd co corp bros esq llc plc ave blvd rd dept univ assn intl mfg gmbh cie")
#: What limits the number behind it.
_BOUND = re.compile(
    r"(?:just |well )?(?:(?:more|less|fewer) than|up to|at (?:least|most)|under|over|above|below|about|around) (?=\d)",
    re.I,
)
#: Names of which an exclamation mark is known to be a part.
_MARKED = _words("yahoo! wham! jeopardy! joomla! kahoot!")
PRONOUNS = _words("""he she it they we i you this that these those there here who everyone everybody nobody
    someone somebody anyone one people all none his her its their our my your him them me us""")
#: Letters of which pronouns are made where no space parts words.
_PRONOUN_LETTERS = "我你您他她它这這那谁誰私彼"
#: Words that begin a sentence and no name.
ASIDES = _words("""yes no sure ok okay well so but and or then now today tomorrow yesterday however also maybe
    perhaps probably possibly actually currently indeed clearly apparently obviously suppose imagine assume if
    when while because since although though as once after before hello hi hey thanks sorry oh ah wow certainly
    absolutely correct right exactly great good of course only even both either neither nor not never is are do
    does did was were has have can could would should what where which why how tell say says said let please
    consider note remember answer question fact nowhere somewhere anywhere everywhere elsewhere user assistant
    human unknown unclear n/a none nothing undefined according in on at to from by with for about apart besides
    despite during like unlike until among given thank both""")
#: Those that are nouns, with which a longer name may begin: Human Resources, Answer Key.
_NOUNS = _words("user assistant human question answer fact note")
_FUNCTION = PRONOUNS | _words("""in on at with from to by for near until than but and or if is are was were be
    been am has have had do does did can could will would should may might must now then today currently also
    too very still just let please when while where which whose since because as not no never nor either neither
    without about into over under called named known says said lives works speaks well often sometimes always
    again alone together instead""")
#: What stands before somebody's own thing.
_OWN = re.compile(r"(?:our|my|your|his|her|its|their) own (?=\w)", re.I)
_PREPOSITIONS = _words("in on at with from to by for near until than and or about into over under without of per")
_PARTICLES = _words("""de da do dos das di del della der den van von zu zur zum la le les lo el al bin ibn ben
    of the y e du des af av ter ten op upon sur ap aan auf am im""")
_NUMBERS = _words("""one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty
    sixty hundred thousand half""")
#: Words that end as adverbs do and are none.
_NO_ADVERBS = _words("""family supply assembly monopoly anomaly butterfly dragonfly firefly melancholy daily weekly
    monthly yearly quarterly hourly friendly elderly orderly lonely lovely costly homely lively sicily
    gadfly panoply homily""")
#: A comma that is inside one name: a suffix, a region's code, a year, the code of a place.
_TAIL = re.compile(
    r",\s*(?:[A-Z]{2}|[A-Z]{1,3}-?\d[\w-]*|(?:[A-Z]\.\s?)+[A-Z]?|\d{4}|(?:Jr|Sr|Inc|Ltd|LLC|Esq|Ph\.D|M\.D)\.?|I{1,3})$"
)
#: Marks that no name holds; between two digits they are a number's: 05:40, 1,240, 8/1.
_BREAKS = re.compile(r"[;()\[\]{}|<>\"“”«»=—–、，；：（）*†‡^@\\]|(?<!\d)[,:/]|[,:/](?!\d)|\s-+\s|\.\.|…")
_ITEMS = re.compile(
    r"\s*(?:(?<!\d),|,(?!\d)|[、，;/])\s*(?:(?:and|or|und|et|y)\s+)?|\s+(?:and|or|und|oder|et|ou|y|e|o|or)\s+"
)


#: Sets that are asked of each word, made once.
_ASIDE, _SHORT = PRONOUNS | ASIDES, _TITLES | _SUFFIXES
_OPENERS = _ASIDE | _words("the a an")


def plain(text: str) -> str:
    """The text in NFC without thoughts, bold and other marks, links and bullets."""
    text = _THOUGHT.sub("", unicodedata.normalize("NFC", text))
    text = _NUMBERED.sub("", text) if len(_NUMBERED.findall(text)) > 1 else text
    for _ in range(3):
        for mark, kept in _MARKS:
            text = mark.sub(kept, text)
    return text


def boundaries(text: str) -> Iterator[tuple[int, int, bool]]:
    """Where a sentence may end and the next begin, and whether it surely does."""
    start = 0
    for found in _BOUNDARY.finditer(text):
        sure: bool | None = "\n" in found[0] or found[0][0] in UNSPACED
        sure = sure or _ends(text[start : found.start()], found[0], text[found.end() :])
        if sure:
            yield found.start() + len(found[0].rstrip()), found.end(), True
            start = found.end()
        elif sure is None:
            yield found.start() + len(found[0].rstrip()), found.end(), False


def _ends(before: str, stops: str, rest: str) -> bool | None:
    """Whether a sentence ends between two texts; None when it cannot be told. before: the sentence so far."""
    word = before.split()[-1].lstrip("(\"'“‘«") if before.split() else ""
    first = (rest.split() or [""])[0]
    after = first.strip(".,;:!?\"'“”’)")
    pronoun = after.casefold().split("'")[0] in PRONOUNS
    begins = pronoun or (after[:1].isupper() and after.casefold() in _OPENERS)
    begins = begins and not re.fullmatch(r"[A-Z]\.", first)
    continues = after[:1].islower() and not begins
    if stops[0] != ".":
        marked = f"{word}{stops[0]}".casefold() in _MARKED
        if continues or (marked and not begins and not _is_sentence(rest)):
            return False
        alone = len(before.split()) == 1 and word.casefold() not in ASIDES
        return True if begins or (_is_sentence(rest) and not alone and not marked) else None
    kinds = [each.casefold().rstrip(".") for each in before.split()]
    kind = kinds[-1] if kinds else ""
    if before.strip().isdigit():
        return None  # The number of an item, or of a club.
    if not begins and all(len(each) == 1 or each in _TITLES for each in kinds):
        return False  # A sentence is more than initials and titles.
    if kind in _TITLES:
        return True if begins and kind in ("st", "mt", "ft") else None if begins else False
    if kind == "no" and after[:1].isdigit():
        return False
    if _abbreviates(word):
        if begins:
            return None if after[0].islower() else True
        if not continues and _is_sentence(rest):
            return False if all(each[:1].isupper() for each in before.split()) else None  # Names alone make none.
        # `D.C. United.` and `D.C. Lovely.` look alike; after a single initial a name goes on.
        return False if continues or len(kind) == 1 or rest.rstrip()[-1] not in STOPS else None
    # A name is not called out by itself: Cheers!
    called = re.fullmatch(r"[A-Z][a-z]+!+", rest.strip()) is not None
    return True if begins or called or (not continues and _is_sentence(rest)) else None


def _abbreviates(word: str) -> bool:
    """Whether a stop after this word may belong to it: an initial, a title, a suffix, or letters without a vowel."""
    kind = word.casefold().strip(".,")
    if kind in _SHORT or re.fullmatch(r"[A-ZÀ-Þ]|(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}", word.strip(",")):
        return True
    return re.fullmatch(r"[B-DF-HJ-NP-TV-Z][b-df-hj-np-tv-xz]{1,4}", word) is not None


def _is_sentence(rest: str) -> bool:
    """Whether what follows a stop has more than one word, of which one is no name's."""
    words = list[str]()
    for word in rest.split("\n", 1)[0].split():
        words.append(word)
        if word[-1] in STOPS and not _abbreviates(word.rstrip(STOPS)):
            break
    common = (word for word in words[1:] if not word[0].isupper() and word not in _PARTICLES)
    return len(words) > 1 and any(True for _ in common)


def sentence_spans(text: str) -> list[tuple[int, int, list[tuple[int, int]]]]:
    """Each sentence of a text, from where to where, with the places inside at which it may end and another begin."""
    found, start, cuts = [], 0, list[tuple[int, int]]()
    for before, after, sure in (*boundaries(text), (len(text), len(text), True)):
        if not sure:
            cuts.append((before, after))
            continue
        if text[start:before].strip():
            found.append((start, before, cuts))
        start, cuts = after, []
    return found


def may_be_several(text: str) -> bool:
    """Whether the text has a stop inside, without which it is one sentence."""
    return _INSIDE.search(text) is not None


def sentences(text: str) -> list[str]:
    """The sentences of a text."""
    if not may_be_several(text):
        return [text.strip()] if text.strip() else []
    return [text[start:stop].strip() for start, stop, _ in sentence_spans(text)]


def endings(text: str) -> list[str]:
    """The text without what ends a sentence and without quotes around it; two where a stop may belong to the name."""
    text = text.strip()
    while text:
        bare = text.rstrip(STOPS + " \t")
        while len(parts := bare.rsplit(None, 1)) == 2 and all(map(_is_picture, parts[1])):
            text = bare = parts[0]  # Looked at again, for its own stops.
            bare = bare.rstrip(STOPS + " \t")
        word, stop = (bare.split() or [""])[-1], text[len(bare) :][:1]
        if stop == "!" and f"{word}!".casefold() in _MARKED:
            return [f"{bare}!"]
        if stop == "." and len(bare) > 1 and _abbreviates(word):
            sure = "." in word or word.casefold() in _SUFFIXES | {"st"} or re.search(r"\b\w\.\s*\w$", bare)
            return [f"{bare}."] if sure else [bare, f"{bare}."]
        if bare == text == unquoted(text):
            break
        text = bare if bare != text else unquoted(text)
    return [text] if text else []


def is_suffixed(text: str) -> bool:
    """Whether the text ends as names of firms and families do, with a stop or without: Moss Ltd."""
    return text.rpartition(" ")[2].casefold().removesuffix(".") in _SUFFIXES


def unquoted(text: str) -> str:
    """The text without the quotes that enclose it."""
    text, closing = text.strip(), _QUOTES.get(text.strip()[:1])
    return text[1:-1].strip() if len(text) > 2 and text[-1] == closing and closing not in text[1:-1] else text


def is_name(text: str) -> bool:
    """Whether every word of the text can be part of one name."""
    text = _TAIL.sub("", text)
    words = text.split()
    if not words or _breaks(text) or text[0] in _PRONOUN_LETTERS or _begins_no_name(list(map(_small, words))):
        return False
    capital = (each[:1].isdigit() or _unsmall(each) or not any(map(str.isalpha, each)) for each in words)
    return all(large or word in _PARTICLES for large, word in zip(capital, words, strict=True)) and any(
        word not in _PARTICLES for word in words
    )


def _begins_no_name(words: Sequence[str]) -> bool:
    """Whether the first of these words, in small letters, begins a sentence and no name."""
    return words[0] in _ASIDE and not (len(words) > 1 and words[0] in _NOUNS)


def _small(word: str) -> str:
    """A word in small letters without its stop, unless it is written in capitals alone, as US is."""
    return word if len(word) > 1 and word.isupper() else word.casefold().rstrip(".!'")


def names_only(text: str) -> bool:
    """Whether no word of the text is one of a sentence, whatever its capitals."""
    return is_name(text) and not any(
        word in _FUNCTION or word in _OPENERS or word == "of" for word in map(_small, text.split())
    )


def _breaks(text: str) -> bool:
    """Whether the text holds a mark or a picture that no name holds."""
    # Most texts are of plain letters, of which two marks alone count as pictures.
    pictures = "^" in text or "`" in text if text.isascii() else any(map(_is_picture, text))
    return pictures or _BREAKS.search(text) is not None


def _is_picture(letter: str) -> bool:
    return unicodedata.category(letter) in ("So", "Sk") or letter in "\u200d\ufe0f"


def _unsmall(word: str) -> bool:
    """Whether a letter of the word is a capital, or of a script that has none."""
    return "A" <= word[:1] <= "Z" or any(letter.isalpha() and not letter.islower() for letter in word)


def is_phrase(text: str, most: int = 4) -> bool:
    """Whether the text is at most a few words, none of which makes a sentence or begins a second thing."""
    words = [_small(word) for word in text.split()]
    own = words[1:] if words[:1] in (["a"], ["an"], ["the"]) or _OWN.match(text) else words
    if words[:1] == ["the"] and words[-1] == "one" and len(own) > 1:
        own = own[:-1]  # The blue one.
    if not 0 < len(own) <= most or _breaks(text) or _begins_no_name(own) or _FUNCTION.intersection(own):
        return False
    if re.search(r"[.!?]\s", text):
        return False  # What follows a stop may be another sentence.
    return not any(word.endswith("ly") and len(word) > 5 and word not in _NO_ADVERBS for word in own)


def is_linked(text: str) -> bool:
    """Whether the text is a thing of a few words with a preposition inside: cash on delivery, but not based in Rome."""
    words = [_small(word) for word in text.split()]
    inside = _PREPOSITIONS.intersection(words[1:-1])
    rest = " ".join(word for word in words if word not in inside)
    return bool(inside) and is_phrase(rest) and not words[0].endswith(("ed", "ing"))


def may_be_said(text: str) -> bool:
    """Whether the text does not begin as a sentence of somebody who cannot answer: I am not sure."""
    words = list(map(_small, text.split()))
    return bool(words) and (not _begins_no_name(words) or (words[0] in _PREPOSITIONS and words[0] not in ("and", "or")))


def is_title(text: str) -> bool:
    """Whether the text has a preposition between words that a name may have: Harbour at Dusk."""
    # Most texts end in small letters, and need not be cut into words.
    capital = not text.rpartition(" ")[2][:1].islower()
    return capital and is_linked(text) and is_name(" ".join(each for each in text.split() if each not in _PREPOSITIONS))


def is_counted(text: str) -> bool:
    """Whether the text is a number or a share of something, and no pronoun: one year, no restrictions, under 30 m."""
    if bound := _BOUND.match(text):
        return is_phrase(text[bound.end() :])
    first, _, rest = text.partition(" ")
    if text.casefold() == "none at all":
        return True
    return first.casefold() in ("one", "no", "all", "both") and is_phrase(rest)


def is_number(text: str) -> bool:
    """Whether the text is one number, in digits or in words."""
    return text.casefold() in _NUMBERS or (text[:1].isdigit() and text.replace(".", "").replace(",", "").isdigit())


def is_list(text: str) -> bool:
    """Whether the text names several things."""
    items = _ITEMS.split(_TAIL.sub("", text))
    return len(items) > 1 and all(is_name(item) or is_phrase(item) for item in items if item)


def same_person(name: str, asked: str) -> bool:
    """Whether a name in a reply means whom the question named: a pronoun, or some of the same words, titles aside."""
    words = (each.split() for each in (name, asked))
    own, other = ({word for word in each if word.rstrip(".").casefold() not in _TITLES} for each in words)
    return name.casefold() in ("he", "she", "it", "they") or (bool(own) and own <= other)
