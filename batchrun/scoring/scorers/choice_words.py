"""The words by which answers of many languages state a choice: `answer`, `is`, `because`, `both`, …

Each word is a pattern; two spaces or a new line separate the words, and one space is any white space.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "BE",
    "BEFORE_RIGHT",
    "BEST",
    "CHOOSE",
    "CONNECTIVES",
    "COPULAS",
    "HEDGES",
    "INSTEAD",
    "JOINING",
    "LIMITS",
    "NEGATIONS",
    "NOUNS",
    "OPTION",
    "RIGHT",
    "RIGHT_UNSPACED",
    "SEVERAL",
    "VERBS",
    "WRONG",
    "any_of",
]


def _words(text: str) -> tuple[str, ...]:
    words = re.split(r"  +|\n\s*", text.strip())
    return tuple(dict.fromkeys(word.replace(" ", r"\s+") for word in words if word))


def any_of(words: tuple[str, ...]) -> str:
    """Return a pattern for any of some patterns; longer ones are tried first."""
    return f"(?:{'|'.join(sorted(words, key=len, reverse=True))})"


NOUNS: Final = _words(r"""
    answers?(?!\s*(?:choices|options)\b)  ans
    (?:correct|right|best|final|selected|chosen|my) (?:option|choice|selection|letter|response|one|alternative)
    correct(?!\w)  choice  option  selection  solution  verdict  conclusion  letter  antwort(?:en)?  antwoord
    svar(?:et)?  svaret  vastaus  vastus  lösung  richtig(?:e option)?  auswahl  respuestas?  respostas?  réponses?
    risposta  răspuns(?:ul)?  opción correcta  opció correcta  (?:opção|alternativa) correta  alternativa
    option correcte  opzione corretta  gabarito  solución  ответ  відповідь  odpowied[źz]  odpov[eě]ď  odgovor
    отговор(?:ът)?  одговор  válasz  απάντηση  atsakymas  atbilde
    erantzun(?:a|\s+zuzena)?  պատասխան(?:ը|ն|նն)?  პასუხი(?:ა)?  (?:cevap|yanıt)(?:ı|ınız)?  الإجابة(?: الصحيحة)?
    الاجابة(?: الصحيحة)?  الجواب(?: الصحيح)?  جواب  پاسخ  (?:ה?תשובה)(?: הנכונה)?  jawaban(?:nya)?  jawapan(?:nya)?
    đáp án  câu trả lời  คำตอบ(?:ที่ถูกต้อง)?  ตอบ  (?:ang )?sagot  jibu  (?:सही )?उत्तर  जवाब  उत्तर  উত্তর  பதில்  விடை
    సమాధానం  ಉತ್ತರ  ഉത്തരം  જવાબ  ਜਵਾਬ  उत्तरम्  答案  答え  解答  回答  正解  正答  正确选项  正確選項  选项  選項
    选择  選擇  选  選  答  정답  답변
    답  選択肢
    """)  # fmt: skip
"""Words before a letter that state it: `Answer: B`."""

COPULAS: Final = _words(r"""
    is  are  was  be  would  should  must  will  has to  have to  can only  could only  seems to  appears to  seems
    remains  becomes  that's  it's  it is  in fact  of course  therefore  thus  hence  clearly  obviously
    definitely  indeed  simply  actually  probably  likely  most  then  still  also  just  only  certainly
    undoubtedly  consequently  option  choice  answer  letter  number  the  following  given by  labell?ed
    statement  alternative  response  correct  right  best  final  as follows  provided by  ist  lautet  wäre  daher
    somit  die  der  das  buchstabe  richtige  antwort  het  optie  de  är  er  alternativ  on  vaihtoehto  es
    sería  la  el  opción  opció  letra  correcta  correta  correcte  corretta  inciso  é
    a(?= (?:letra|alternativa|opção))  seria  opção  alternativa  est  serait  donc  lettre  bonne  c['’]est  è
    quindi  lettera  opzione  este  és  ir  е  է
    varianta  esta  le  por tanto  является  это  вариант  буква  под буквой
    правильный  є  варіант  jest  to  opcja  je  možnost  είναι  η  το  şıkkı  seçeneği  seçenek  doğru  هي  هو
    الخيار  الحرف  گزینه  است  היא  הוא  אפשרות  adalah  ialah  opsi  pilihan  huruf  yang benar  là  đúng
    phương án  ay  ni  คือ  ข้อ  है  विकल्प  सही  বিকল্প  হল  হলো  হচ্ছে  是  为  為  应该  應該  应为  應為  应
    就是  选择  選擇  选项
    選項  选  選  项  第  は  が  選択肢  은  는  이  가  선택지  보기
    """)  # fmt: skip
"""Words that may be between such a word and the letter: `The answer is therefore option B`."""

VERBS: Final = _words(r"""
    choose  chose  pick(?:ed)?  select(?:ed)?  go(?:ing)? (?:with|for)  went with  opt for  say  vote for  guess
    conclude  settle on  mark  circle  thus  therefore  hence  so  then  finally  overall  conclusion
    (?:must|should|has to|have to|would|will|can only|could only) be
    it is  it['’](?:s|d be|ll be)  that['’](?:s|d be)  that is  this is
    leaves(?: us with)?  leaving  matches  corresponds to  points to  option  choice  means  only  wähle  nehme
    also  daher  elijo  escojo  es  choisis  donc  c['’]est  escolho  portanto  scelgo  quindi  выбираю
    следовательно  значит  wybieram  seçiyorum  pilih  chọn  अतः  因此  所以  故  よって  따라서  그러므로  opción
    opção  вариант
    विकल्प  probably  maybe  perhaps  likely  definitely  certainly  prefer  believe  think  is  [→⇒∴➜]  =>  ->
    """)  # fmt: skip
"""Words before a letter that ends its clause: `Thus (B).`, `I choose B.`"""

CHOOSE: Final = _words(r"""
    choose  chose  pick(?:ed)?  select(?:ed)?  go(?:ing)? (?:with|for)  went with  opt for  vote for  say  answer  guess
    """)
"""Words after `I` before a letter and the text of its option: `I choose B: Paris`."""

SEVERAL: Final = _words(r"""
    of  both  either  neither  none  all  any  sowohl  beide  weder  entweder  ambas  ambos  ninguna  tanto  nenhuma
    aucune  ni  nessuna  entrambe  ни  оба
    """)  # fmt: skip
"""Words before letters of which none, or more than one, is chosen: `both A and B`."""

OPTION: Final = _words(r"""
    options?  choices?  letter  answer  opción  opção  alternativa  option  opzione  вариант  विकल्प  选项  選項
    選択肢  선택지  pilihan  opsi
    """)  # fmt: skip
"""Words that name a letter without stating it: `option B`."""

JOINING: Final = _words(r"""
    ,  /  &  \+  ;  and  or  nor  und  oder  noch  y  o  u  ni  et  ou  e  ed  en  of  и  или  lub  veya  ve  dan
    atau  và  hoặc  और  या  和  与  或  、  と  か  및  와  과  또는
    """)  # fmt: skip
"""Words and marks between letters that belong together: `A and B`."""

NEGATIONS: Final = _words(r"""
    not  never  cannot  isn['’]t  can['’]t  wasn['’]t  aren['’]t  won['’]t  shouldn['’]t  wouldn['’]t  nicht  no
    não  pas  n['’]est  non  unlike  than  over  versus  vs\.?  instead of  (?:rul\w+|out) out  eliminat\w+
    exclud\w+  reject\w*  discard\w*  except  neither  nor  against  не  nie  değil  bukan  không  不  不是  不选
    नहीं
    """)  # fmt: skip
"""Words before a letter that deny it: `The answer is not B`."""

BE: Final = _words(r"""
    is  are  was  must be  should be  would be  has to be  seems(?: to be)?  appears(?: to be)?  looks  remains  ist
    wäre  es  est  é  è  jest  является  это  adalah  là  هي  هو  [-–—]
    """)  # fmt: skip
"""Verbs between a letter and a word that states or denies it: `B is correct`."""

RIGHT: Final = _words(r"""
    correct  right  true  best  accurate  appropriate  valid  answer  choice
    only (?:one|option|choice|statement|possibility|letter)  richtig\w*  korrekt\w*
    correct[ao]  correcte  bonne  juste  corretta  giusta  certa  respuesta  réponse  resposta  risposta
    antwort  antwoord  верн\w*  правильн\w*  prawidłow\w*  poprawn\w*  doğru\w*  benar  jawaban  đúng  đáp
    الصحيحة  الصحيح  الإجابة
    """)  # fmt: skip
"""Words after a letter that state it: `B is correct`."""

BEFORE_RIGHT: Final = _words("""
    the  my  our  a  an  la  die  de  only  most  single  clearly  indeed  therefore  thus  definitely  final  clear
    obvious  o  le  il  el  het
    """)  # fmt: skip
"""Words that may be between `is` and `correct`."""

BEST: Final = _words(r"""
    describes?  fits?  matches  explains?  answers?  represents?  captures?  reflects?  illustrates?  characteri[sz]es?
    defines?  summari[sz]es?  completes?  expresses  supports?
    """)  # fmt: skip
"""Verbs after `B best`, which states that letter."""

RIGHT_UNSPACED: Final = _words(r"""
    [选選]?[项項]?\s*(?:是|为|最|才是)?\s*(?:正确|正確|对的|正解|符合)  (?:が|は|の?方?が)\s*正
    번?\s*(?:이|가)\s*(?:정답|맞|옳)
    (?:सही|सत्य)  (?:şıkkı|seçeneği)?\s*doğru
    """)  # fmt: skip
"""The same in languages that need no verb between them."""

HEDGES: Final = _words("""
    if  might  may  could  argue  argued  claim  claims  some  someone  why  when  whether  unless
    """)  # fmt: skip
"""Words that keep a sentence from stating that a letter is right: `some might argue B is correct`."""

LIMITS: Final = _words(r"""
    \s+to (?:a|an|another|the other)  \s+(?:only|if|when|unless)
    """)  # fmt: skip
"""Words that limit a statement: `B is the answer to another question`."""

INSTEAD: Final = _words("""
    but  instead  rather  sondern  sino  mais  ma  而是
    """)  # fmt: skip
"""Words after a denied letter that begin with the right one: `not A but B`."""

WRONG: Final = _words(r"""
    not  never  wrong  incorrect\w*  false  fails?  failed  invalid  impossible  eliminated  excluded  ruled out
    out  irrelevant  a (?:common|trap|distractor|mistake|tempting|plausible|misconception|good guess)\w*  too \w+
    cannot  can['’]t  doesn['’]t  does not  isn['’]t  falsch  incorrecte  fausse?  errad[ao]  sbagliat[ao]
    неверн\w*  неправильн\w*  错误  不正确  不对  错  오답  間違い  誤り
    """)  # fmt: skip
"""Words after a letter that deny it: `B is wrong`."""

CONNECTIVES: Final = frozenset(_words("""
    because  as  since  best  here  for
    due  is  was  are  and  or  but  not  which  with  where  while  although  though
    given  based  so  if  when  seems  appears  looks  fits  works  matches  remains  must  should  would  has  can
    however  rather  than  unlike  instead  therefore  per  by  in  from  according  after  correct  the  this  that
    it  we  both  weil  da  denn  und  oder  nicht  ist  porque  pues  ya  y  o  no  es  pero  car  parce  puisque
    et  ou  mais  est  e  é  è  perché  poiché  non  omdat  want  niet  bo  ponieważ  i  nie  jest  потому  так  и
    не  это  поскольку  karena  sebab  vì
    """))  # fmt: skip
"""Lower-case words that may follow a letter: `A because …`; before others, `A` and `I` are words: `A red car`."""
