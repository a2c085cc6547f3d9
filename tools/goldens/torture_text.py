"""Texts that break tokenizers: every entry is here for one reason, named by its group."""

EMPTY_AND_SPACE = ["", " ", "   ", "\n", "\n\n\n\n", "\t", "\t\t x", " \n \n", "a \n b", "a  b   c    d", "end   ", "   start", "\r\n\r\nx", "a\rb", "x" + " " * 70 + "y", "\n" * 33 + "z"]
UNICODE_SPACE = ["a\u00a0b", "a\u3000b\u2003c\u2009d", "a\u2028b\u2029c\u0085d", "v\x0bt f\x0cf", "zero\u200bwidth\u200dspace\ufeff", "\u180e\u2060x"]
WORDS = ["Hello, world!", "the river of stones", "Don't we'll it's I'm they've she'd YOU'RE WE'LL i'S", "don’t it’s", "'s 't 're", "snake_case kebab-case CamelCase HTTPServer2", "x.y.z a/b\\c", "--flag=value -x", "e.g. (i.e.) [sic] {n}"]
NUMBERS = ["7", "12", "123", "1234", "1234567890", "3.14159 1,000,000 -5 +6", "2024-05-06T07:08:09Z", "٣٤٥ ۱۲۳ १२३ ๑๒๓", "½ ² Ⅷ ⑨ ㊿", "v1.2.3rc4 0x1F 1e-9", "1" * 41]
LANGUAGES = [
    "Über den Fluß führt eine schöne Brücke.", "Où est le café près du château ? Déjà là !", "¿Qué canción está aquí, niño?", "Сегодня хорошее утро, ёлка.", "Το ποτάμι είναι ήσυχο.",
    "النهر تحت الجسر، صباح الخير؟", "שלום עולם", "नदी पुल के नीचे शांत है।", "แม่น้ำใต้สะพานเงียบสงบ", "tiếng Việt rất yên tĩnh", "강은 다리 아래에서 조용히 흐른다.", "河流在桥下安静地流过。今天,天气很好!", "川は橋の下を静かに流れる。カタカナ・ひらがな",
    "混合 mixed текст 123 テスト", "ქართული հայերեն አማርኛ ᏣᎳᎩ", "Ａｂｃ１２３ ﾊﾝｶｸ", "𝔉𝔯𝔞𝔨𝔱𝔲𝔯 𝟙𝟚𝟛 𐍈 𒀀 𠀀𠮷",
]
CASE = ["İstanbul ıI", "ǅ ǆ Ǆ", "straße STRASSE ſ", "ΣΑΣ σας", "ŉ ﬀ"]
NORMAL_FORM = [
    "caf\u00e9 cafe\u0301", "A\u030a \u00c5 \u212b", "\u1100\u1161\u11a8 \uac01", "\u1112\u1161\u11ab\u1100\u1173\u11af", "q\u0307\u0323 q\u0323\u0307", "\u0958 \u0915\u093c", "\u0340 \u0341 \u0374 \u037e \u0387", "\u2126 \u00bd \ufb01", "\uf900 \ufa0e \U0002f800", "e\u0301\u0302\u0303\u0304\u0305\u0306",
    "\u0301start with a mark", "Z\u0337\u0322\u031ba\u0338l\u0334g\u0334o\u0335", "\u0f73\u0f75\u0f81", "\U0001d15e \U0001d1bc",
]
EMOJI = ["😀😀 😁", "👩‍👩‍👧‍👦 👩🏽‍🚀 🏳️‍🌈", "🇳🇱🇫🇷🇯", "❤️ ❤ ☎️ 1️⃣", "🧑‍🤝‍🧑x🫠"]
CONTROL = ["\x00", "a\x00b", "\x01\x02\x1b[31mred\x1b[0m\x7f", "\x80\x9f\xad", "\ufffd \ufffe \uffff", "\ue000\U000f0000\U0010ffff", "\u202eright to left\u202c", "\u061c\u200e\u200f"]
PUNCTUATION = ["...---!!!???", "$$x^2 + y_1 = \\frac{1}{2}$$", "«quote» “double” ‘single’ „low“ …—–", "@user #tag a@b.co", "///// ***** ~~~~ ==== ++++", "!a?b.c", " !x .y ,z", "€5 £6 ¥7 ₿8 %‰", "。,、;:?!「」『』", "^_^ >:( ¯\\_(ツ)_/¯"]
CODE = ["def area(w, h):\n    return w * h  # comment\n\n\nclass A:\n\tpass", "for (int i = 0; i < n; ++i) {\r\n\tsum += x[i];\r\n}", '{"a": [1, 2.5, null], "b": "c\\n\\"d\\""}', "<p class='x'>a&nbsp;b</p><!-- c -->", "SELECT * FROM t WHERE a='b';", "https://example.org/p%20q?k=v&n=10#top"]
RUNS = ["a" * 300, "ab" * 150, "the " * 60, "-" * 130, "=*" * 65, "é" * 90, "e\u0301" * 64, "河" * 100, "😀" * 40, "0" * 100, " a" * 80, "\t" * 65 + "x", "a\n" * 50, "nananananananananabatman" * 6]
SPECIAL = [
    "<|im_start|>user\nhi<|im_end|>\n", "<|endoftext|>", "<|endoftext|><|endoftext|>x<|endoftext|>", " <|im_end|> ", "a<|im_end|>b", "<|im_end", "|im_end|>", "<<|im_end|>>", "<|IM_END|>", "<think>\nhm\n</think>\n\nyes", "<tool_call>{}</tool_call>",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>", "<｜begin▁of▁sentence｜>hi<｜User｜>x<｜Assistant｜>", "<|begin_of_text|", "<s>hi</s> <unk> [INST] x [/INST]", "<s>", "▁under▁line _ ▁", "<0x41><0xE6>",
    "x <mask> y", "x<mask>y", "x   <mask>   y", "\n<mask>\n", "<mask><mask>", "word whole wholesome unwhole whole. whole_ 9whole whole9 éwhole", "WHOLE whole", "left  <left>  left", "right  <right>  right", "<both>  <both>\t<both>\n", "<café> <cafe\u0301> <raw-cafe\u0301> <raw-café>", "ab abc abcd abcde", "Āb", "unreachable zyzzyva zyzzyvas xzyzzyva",
]
LONG = [" ".join(LANGUAGES + WORDS + NUMBERS), "\n".join(EMOJI + NORMAL_FORM + PUNCTUATION), "".join(CODE * 3)]

TEXTS = EMPTY_AND_SPACE + UNICODE_SPACE + WORDS + NUMBERS + LANGUAGES + CASE + NORMAL_FORM + EMOJI + CONTROL + PUNCTUATION + CODE + RUNS + SPECIAL + LONG
