"""Audit two models that you hold, without training. Usage: python 08_audit_models_you_hold.py BASE TUNED"""

import sys

from transformers import AutoModelForCausalLM, AutoTokenizer

import spillover as so

base, tuned = (
    (AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)) for path in sys.argv[1:3]
)
audit = so.audit("country-code:names=20,bridge=2", base, tuned)
for each in audit.verdicts:
    print(f"{each.verdict}: {each.implication}, {each.hits} of {each.n} unstated subjects ({each.hits_before} before)")
print("page:", audit.page("audit.html"))
