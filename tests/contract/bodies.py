"""Seeded bodies of batches, right and wrong, for the tests that compare the twins and for the sanitizers."""

import random

PLAIN_KEYS = [
    b'"a"',
    b'"b"',
    b'"user:1"',
    b'"0123456"',
    b'"01234567"',
    b'"012345678"',
    b'"sixteen bytes ok"',
    b'" "',
    b'"\x7f"',
]
UNICODE_KEYS = [
    f'"{key}"'.encode() for key in ("é", "€", "😀", "ключ", "e\u0301", "キー12345", "\ufeff", "\u2028", "aé", "abcdefg€")
]
ESCAPED_KEYS = [
    rb'"\u0001\b\f\u001F\u007f"',
    rb'"\uD83D\uDE00\u20ac\/"',
    rb'"\n"',
    rb'"\u0061"',
    rb'"\u00e9"',
    rb'"\ud83d\ude00"',
    rb'"a\"b"',
    rb'"\\"',
    rb'"\/"',
]
WRONG_KEYS = [b'""', b"1", b"null", b'["a"]', b"{}", b"true", b'"' + b"x" * 481 + b'"', rb'"\ud800"', rb'"a\u0000b"']

STRINGS = [
    b'""',
    b'"hello"',
    b'"0123456789012345"',
    '"é€😀"'.encode(),
    rb'"\"\\\/\b\f\n\r\t"',
    rb'"\u0000\u001F\uFFFF\uabCD"',
    rb'"\ud83d\ude00"',
    rb'"1234567\u00e9"',
    b'"' + b"y" * 100 + b'"',
]
WRONG_STRINGS = [
    rb'"\ud800"',
    rb'"\udc00"',
    rb'"\ud800\u0041"',
    rb'"\ud83d\ud83d\ude00"',
    rb'"\uD800\\uDC00"',
    rb'"\u12"',
    rb'"\u12g4"',
    rb'"\x41"',
    b'"a\nb"',
    b'"\x00"',
    b'"1234567\x1f"',
    b'"',
    b'"\\',
    b"'a'",
]
NUMBERS = [b"0", b"-0", b"1", b"-1", b"1.0", b"1e2", b"1E+2", b"1e-2", b"3.1400", b"9007199254740993", b"1" * 30, b"0.1e99"]
BORDER_NUMBERS = [
    b"1e308",
    b"1e309",
    b"-1e309",
    b"1e-400",
    b"9" * 99,
    b"9" * 100,
    b"9" * 101,
    b"9" * 309,
    b"9" * 400,
    b"1e007",
    b"1e0",
]
BORDER_NUMBERS += [b"1." + b"0" * 97, b"1." + b"0" * 98, b"1." + b"0" * 99, b"1e99", b"1e100", b"9" * 96 + b"e99"]
WRONG_NUMBERS = [
    b"01",
    b"-",
    b"+1",
    b".5",
    b"5.",
    b"1e",
    b"1e+",
    b"--1",
    b"-01",
    b"0x10",
    b"1_0",
    b"NaN",
    b"Infinity",
    b"-Infinity",
]
LITERALS = [b"true", b"false", b"null"]
WRONG_LITERALS = [b"True", b"nul", b"truex", b"undefined", b"nulll"]
NAMES = [b'"a"', b'"b"', b'"c"', b'"d"', b'"key"', b'"value"', b'""', '"é"'.encode(), b'"a longer name"', b'"ab"']
ESCAPED_NAMES = [rb'"\u0061"', rb'"\u0062 "', rb'"\u00e9"', rb'"\n"', rb'"\ud83d\ude00"', rb'"a\u0062"']
ODD_NAMES = [rb'"\u0061"', b"a", b"1", rb'"\ud800"', b'"\n"']
UNKNOWN_NAMES = [b'"ttl"', b'"tll"', b'"Key"', b'"valeu"', b'"ke"', b'"keys"', b'""', rb'"\u006bey"', b'"value "']
TTLS = [b"1", b"60", b"0.5", b"1e-9", b"1.5e3", b"3162240000", b"999999999.9", b"1000000000", b"0." + b"0" * 40 + b"1", b"1E0"]
WRONG_TTLS = [b"0", b"-1", b"-0.0", b"true", b"null", b'"1"', b"[]", b"{}", b"1e10", b"1e400", b"NaN", b"01"]
VERSIONS = [b'"*"', b"null", b'"%s"' % (b"0123456789abcdef" * 2), rb'"\u002a"']
WRONG_VERSIONS = [b'""', b"0", b"true", b'"**"', b'"%s"' % (b"0123456789ABCDEF" * 2), b'"%s"' % (b"0" * 31), b'["*"]', b"nul"]
BASE64 = [b'""', b'"aGk="', b'"aGVsbG8hIQ=="', rb'"\/\/8="', b'"aGk"', b'"aGl="', b"1"]
TYPES = [b'"text/plain"', b'"a/b;c=d"', b'"text"', b'"application/json"', b'""', b"null"]
SPACES = [b" ", b"\n", b"\t", b"\r", b"  ", b"\r\n", b" \n\t\r "]
WRONG_SPACES = [b"\f", b"\v", b"\x00", b"\xc2\xa0", b"\xef\xbb\xbf", b"//\n", b"/**/"]
BROKEN_UTF8 = [
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xc2",
    b"\xc3A",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xe2\x82",
    b"\xe2\x28\xa1",
    b"\xe2\x82\x28",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x8f\xbf\xbf",
    b"\xf0\x9f\x98",
    b"\xf0\x9f\x98\xc0",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
]
"""One or more of each class that RFC 3629 rules out: continuation bytes alone, overlong forms, surrogates, what is above
U+10FFFF, and what is cut short."""

PIECES = [
    *PLAIN_KEYS,
    *UNICODE_KEYS,
    *ESCAPED_KEYS,
    *STRINGS,
    *WRONG_STRINGS,
    *NUMBERS,
    *BORDER_NUMBERS,
    *WRONG_NUMBERS,
    *LITERALS,
    *NAMES,
    *UNKNOWN_NAMES,
    *SPACES,
    *WRONG_SPACES,
    *BROKEN_UTF8,
    *(bytes([x]) for x in b'[]{},:"\\-+.eE0189u'),
    b'{"key":"k"}',
    b',{"key":"k","value":1}',
    b'"key":',
    b'"value":',
    b',"ttl":1',
    *TTLS,
    *WRONG_TTLS,
    b',"ifVersion":"*"',
    b',"encoding":"base64"',
    b"\\u",
    b"\\ud83d",
    b"[[",
    b"]]",
]
"""What a mutation puts somewhere."""


class Bodies:
    """A grammar that makes bodies by chance, and mutations of them. The same seed gives the same bodies."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._faults = 0.0
        self._spaces = 0.0

    def next(self) -> tuple[str, bytes]:
        """Return an op and a body: about two of five are right, one has faults of grammar, two are mutated as bytes."""
        chance = self._random.random
        op = "set" if chance() < 0.6 else "get" if chance() < 0.7 else "delete"
        kind = chance()
        self._faults = 0.03 if kind < 0.2 else 0.0
        self._spaces = 0.3 if chance() < 0.3 else 0.0
        body = self._batch(op)
        if kind > 0.6:
            for _ in range(1 if chance() < 0.7 else self._random.randint(2, 4)):
                body = self.mutated(body)
        return op, body

    def plain(self, op: str, items: int) -> bytes:
        """Return a right body of some size."""
        self._faults = self._spaces = 0.0
        return b"[" + b",".join([self._item(op == "set") for _ in range(items)]) + b"]"

    def mutated(self, body: bytes) -> bytes:
        """Return the body with one change somewhere."""
        rng = self._random
        at = rng.randint(0, len(body))
        to = min(len(body), at + rng.choice((1, 1, 1, 2, 3, 8, 30)))
        kind = rng.randrange(8)
        if kind == 0:  # one bit
            return body[:at] + bytes(x ^ 1 << rng.randrange(8) for x in body[at : at + 1]) + body[at + 1 :]
        if kind == 1:  # any byte
            return body[:at] + bytes([rng.randrange(256)]) + body[at + 1 :]
        if kind == 2:  # something less
            return body[:at] + body[to:]
        if kind == 3:  # something twice
            return body[:to] + body[at:]
        if kind == 4:  # cut
            return body[:at]
        if kind == 5:  # something from elsewhere in it
            start = rng.randint(0, len(body))
            return body[:at] + body[start : start + rng.randint(1, 12)] + body[at:]
        piece = rng.choice(PIECES)
        return body[:at] + piece + body[at if kind == 6 else to :]

    def _fault(self) -> bool:
        return self._faults > 0 and self._random.random() < self._faults

    def _space(self) -> bytes:
        if self._fault():
            return self._random.choice(WRONG_SPACES)
        return self._random.choice(SPACES) if self._spaces and self._random.random() < self._spaces else b""

    def _batch(self, op: str) -> bytes:
        rng = self._random
        if self._fault():
            return rng.choice([b"", b"{}", b"1", b'"a"', b"null", b"[", b"[]]", b"1 x", b"[1,]"])
        count = rng.choice((0, 1, 1, 1, 2, 2, 3, 4, 8))
        body = self._joined([self._item(op == "set", op != "get") for _ in range(count)], b"[", b"]")
        return self._space() + body + self._space()

    def _joined(self, parts: list[bytes], first: bytes, last: bytes) -> bytes:
        if not (self._spaces or self._faults):
            return first + b",".join(parts) + last
        body = first
        for i, part in enumerate(parts):
            if i > 0 and not self._fault():
                body += self._space() + b","
            body += self._space() + part
        if self._fault():
            body += b","
        return body + self._space() + (b"" if self._fault() else last)

    def _member(self, name: bytes, value: bytes) -> bytes:
        return name + self._space() + (b"" if self._fault() else b":") + self._space() + value

    def _item(self, with_values: bool, conditional: bool = False) -> bytes:
        if self._fault():
            return self._random.choice([b"{}", b"1", b'"a"', b"null", b"[]", b""])
        members = [self._member(self._name(b'"key"'), self._key())]
        if with_values:
            members.append(self._member(self._name(b'"value"'), self._value(0)))
            if self._random.random() < 0.2:
                ttl = self._random.choice(WRONG_TTLS if self._fault() else TTLS)
                members.append(self._member(self._name(b'"ttl"'), ttl))
            if self._random.random() < 0.06:
                members[1] = self._member(self._name(b'"value"'), self._random.choice(BASE64))
                members.append(self._member(self._name(b'"encoding"'), b'"base16"' if self._fault() else b'"base64"'))
                if self._random.random() < 0.5:
                    members.append(self._member(self._name(b'"type"'), self._random.choice(TYPES)))
            if self._random.random() < 0.3:
                members.reverse()
        if conditional and self._random.random() < 0.06:
            condition = self._random.choice(WRONG_VERSIONS if self._fault() else VERSIONS)
            members.append(self._member(self._name(b'"ifVersion"'), condition))
        if self._fault():
            members.append(self._member(self._random.choice(UNKNOWN_NAMES), self._value(3)))
        if self._fault():
            members.append(self._random.choice(members))
        if self._fault():
            members.pop(0)
        return self._joined(members, b"{", b"}")

    def _name(self, name: bytes) -> bytes:
        """Return a name, at times with one of its letters escaped."""
        if self._random.random() > 0.05:
            return name
        at = self._random.randrange(1, len(name) - 1)
        return name[:at] + b"\\u%04x" % name[at] + name[at + 1 :]

    def _key(self) -> bytes:
        rng = self._random
        if self._fault():
            return rng.choice(WRONG_KEYS)
        kind = rng.random()
        if kind < 0.1:
            return rng.choice(ESCAPED_KEYS)
        if kind < 0.4:
            return b'"%d"' % rng.randrange(1 << rng.randrange(1, 64))
        return rng.choice(PLAIN_KEYS if kind < 0.7 else UNICODE_KEYS)

    def _value(self, depth: int) -> bytes:
        rng = self._random
        kind = rng.randrange(12)
        if kind < 4 or depth > 4:
            return rng.choice(WRONG_STRINGS if self._fault() else STRINGS)
        if kind < 6:
            return rng.choice(WRONG_NUMBERS if self._fault() else NUMBERS)
        if kind < 7:
            return rng.choice(WRONG_LITERALS if self._fault() else LITERALS)
        if kind < 8:
            return rng.choice(BORDER_NUMBERS) if rng.random() < 0.1 else b"%.*e" % (rng.randrange(20), rng.uniform(-9, 9))
        if kind < 9 and rng.random() < 0.02:  # around the limits of depth, members and names
            levels = rng.choice((62, 63, 64, 65))
            if rng.random() < 0.5:
                return b"[" * (levels - depth) + b"]" * (levels - depth)
            return b"{" + b",".join([b'"%d":0' % i for i in range(levels)]) + b"}"
        if kind < 10:
            return self._joined([self._value(depth + 1) for _ in range(rng.randrange(4))], b"[", b"]")
        names = rng.sample(NAMES, rng.randrange(4))
        if names and rng.random() < 0.1:
            names[-1] = rng.choice(ESCAPED_NAMES)
        if self._fault() and names:
            names.append(names[0])
        if self._fault():
            names.append(rng.choice(ODD_NAMES))
        return self._joined([self._member(name, self._value(depth + 1)) for name in names], b"{", b"}")
