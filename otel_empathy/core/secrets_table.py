"""The shapes of secrets: what issuers put into the tokens that they hand out.

A table and nothing else: `scrub` decides where to look. A row is the name under which a match is
counted and shown, the lower-case literals of which one must be there, and the shape. Shapes begin
with a literal and have bounded repetitions, so that no text makes them slow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["TOKENS", "Token"]


@dataclass(frozen=True, slots=True)
class Token:
    """One kind of token. `digits` asks for a digit, where words could have the same shape."""

    name: str
    anchors: tuple[str, ...]
    shape: re.Pattern[str]
    digits: bool = False


def _row(name: str, anchors: str, shape: str, *, digits: bool = False) -> Token:
    return Token(name, tuple(anchors.split()), re.compile(shape), digits)


def _begins(literal: str) -> str:
    """A literal at the begin of a word.

    A word also begins after an escape of JSON or of a URL, though letters stand there: much of what
    is scrubbed is text inside of text. The literal comes first because searching for one is fast.
    """
    return (
        rf"{literal}(?:(?<![A-Za-z0-9_-]{literal})|(?<=\\[bfnrt]{literal})"
        rf"|(?<=\\u[0-9a-fA-F]{{4}}{literal})|(?<=%[0-9a-fA-F]{{2}}{literal}))"
    )


TOKENS: Final = (
    _row("anthropic", "sk-ant-", r"sk-ant-[A-Za-z0-9_-]{10,300}"),
    _row("openrouter", "sk-or-", r"sk-or-[A-Za-z0-9_-]{16,300}"),
    _row("langfuse", "sk-lf- pk-lf-", r"[sp]k-lf-[0-9a-f-]{20,60}"),
    _row("openai", "sk-", _begins("sk-") + r"[A-Za-z0-9_-]{16,300}", digits=True),
    _row("groq", "gsk_", r"gsk_[A-Za-z0-9]{20,200}"),
    _row("xai", "xai-", _begins("xai-") + r"[A-Za-z0-9_-]{20,200}", digits=True),
    _row("perplexity", "pplx-", r"pplx-[A-Za-z0-9]{20,200}"),
    _row("cerebras", "csk-", _begins("csk-") + r"[A-Za-z0-9]{20,200}", digits=True),
    _row("fireworks", "fw_", _begins("fw_") + r"[A-Za-z0-9]{20,200}", digits=True),
    _row("together", "tgp_v1_", r"tgp_v1_[\w-]{20,200}"),
    _row("nvidia", "nvapi-", r"nvapi-[\w-]{20,200}"),
    _row("replicate", "r8_", _begins("r8_") + r"[A-Za-z0-9]{20,200}"),
    _row("huggingface", "hf_ api_org_", rf"(?:{_begins('hf_')}|api_org_)[A-Za-z0-9]{{20,200}}"),
    _row("langsmith", "lsv2_", r"lsv2_(?:pt|sk)_[0-9a-f]{16,64}(?:_[0-9a-f]{4,32})?"),
    _row("logfire", "pylf_", r"pylf_v\d_[a-z]{2,8}_[A-Za-z0-9]{20,200}"),
    _row("pinecone", "pcsk_", r"pcsk_[\w-]{20,200}"),
    _row("tavily", "tvly-", r"tvly-[\w-]{16,200}"),
    _row("e2b", "e2b_", r"e2b_[0-9a-f]{20,80}"),
    _row("jina", "jina_", _begins("jina_") + r"[A-Za-z0-9_-]{20,200}", digits=True),
    _row(
        "aws-key-id",
        "akia asia abia acca",
        r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]{16}(?![A-Za-z0-9])",
    ),
    _row("aws-bedrock", "absk bedrock-api-key-", r"(?:ABSK|bedrock-api-key-)[\w+/=-]{40,2000}"),
    _row("aws-mws", "amzn.mws.", r"amzn\.mws\.[0-9a-f-]{36}"),
    _row("google-api", "aiza", r"AIza[\w-]{35}"),
    _row("google-oauth", "ya29. gocspx-", r"(?:ya29\.|GOCSPX-)[\w.-]{20,2000}"),
    _row("google-refresh", "1//0", _begins("1//0") + r"[\w-]{20,200}"),
    _row("azure-client", "8q~", r"[\w.~-]{3}8Q~[\w.~-]{31,34}"),
    _row("azure-key", "jqqj99", r"[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{20,40}"),
    _row("github", "ghp_ gho_ ghu_ ghs_ ghr_", r"gh[pousr]_[A-Za-z0-9]{20,255}"),
    _row("github-pat", "github_pat_", r"github_pat_\w{20,255}"),
    _row(
        "gitlab",
        "glpat- glptt- gldt- glrt- glcbt- glft- glimt- glagent- glsoat- gloas-",
        r"gl(?:pat|ptt|dt|rt|cbt|ft|imt|agent|soat|oas)-[\w.-]{16,300}",
    ),
    _row(
        "slack",
        "xoxa- xoxb- xoxc- xoxd- xoxe xoxp- xoxr- xoxs- xapp-",
        r"(?:xox[abcdeprs](?:\.xox[bp])?|xapp)-[A-Za-z0-9%-]{10,500}",
    ),
    _row("slack-hook", "hooks.slack.com/", r"(?<=hooks\.slack\.com/)[a-z]{5,12}/[\w/]{16,200}"),
    _row("discord-hook", "/api/webhooks/", r"(?<=/api/webhooks/)\d{10,25}/[\w-]{20,200}"),
    _row("telegram", ":aa", r"(?<!\d)\d{8,10}:AA[\w-]{32,33}"),
    _row(
        "stripe",
        "sk_live_ sk_test_ rk_live_ rk_test_ whsec_",
        r"(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9+/=]{10,300}",
    ),
    _row("square", "sq0atp- sq0csp- sq0idp-", r"sq0(?:atp|csp|idp)-[\w-]{20,100}"),
    _row("braintree", "access_token$", r"access_token\$\w{4,20}\$[0-9a-z]{8,32}\$[0-9a-f]{16,64}"),
    _row("shopify", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{20,64}"),
    _row("twilio", "sk", r"SK[0-9a-f]{32}(?![A-Za-z0-9])"),
    _row("sendgrid", "sg.", _begins(r"SG\.") + r"[\w-]{16,64}\.[\w-]{16,100}"),
    _row("mailgun", "key-", _begins("key-") + r"[0-9a-f]{32}(?![\w-])"),
    _row("mailchimp", "-us", r"(?<![0-9a-f])[0-9a-f]{32}-us\d{1,2}(?!\w)"),
    _row("npm", "npm_", _begins("npm_") + r"[A-Za-z0-9]{30,200}"),
    _row("pypi", "pypi-ag", r"pypi-Ag[\w-]{40,500}"),
    _row("rubygems", "rubygems_", r"rubygems_[0-9a-f]{32,64}"),
    _row("docker", "dckr_pat_ dckr_oat_", r"dckr_[po]at_[\w-]{20,100}"),
    _row("vault", "hvs. hvb. hvr.", r"hv[sbr]\.[\w-]{20,300}"),
    _row("terraform", ".atlasv1.", r"\w{14}\.atlasv1\.[\w=-]{40,100}"),
    _row("digitalocean", "dop_v1_ doo_v1_ dor_v1_", r"do[por]_v1_[0-9a-f]{32,80}"),
    _row("heroku", "hrku-", r"HRKU-[\w-]{30,100}"),
    _row("fly", "fo1_ fm1 fm2_", r"f(?:o1_|m1[ra]_|m2_)[\w+/=-]{30,2000}"),
    _row("databricks", "dapi", r"dapi[0-9a-f]{32}(?:-\d)?(?!\w)"),
    _row("notion", "ntn_ secret_", r"(?:ntn_|secret_)[A-Za-z0-9]{40,60}(?!\w)"),
    _row("linear", "lin_api_ lin_oauth_", r"lin_(?:api|oauth)_[A-Za-z0-9]{30,80}"),
    _row("figma", "figd_", r"figd_[\w-]{30,80}"),
    _row("airtable", "pat", _begins("pat") + r"[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    _row("atlassian", "atatt3 atctt3", r"AT[AC]TT3[\w=-]{40,400}"),
    _row("postman", "pmak-", r"PMAK-[0-9a-f]{20,30}-[0-9a-f]{30,40}"),
    _row("grafana", "glc_ glsa_", r"gl(?:c|sa)_[\w+/=]{30,400}"),
    _row("newrelic", "nrak- nraa- nrii-", r"NR(?:AK|AA|II)-[\w-]{20,50}"),
    _row("sentry", "sntrys_ sntryu_", r"sntry[su]_[\w+/=-]{40,500}"),
    _row("dynatrace", "dt0c01.", r"dt0c01\.[A-Z0-9]{20,30}\.[A-Z0-9]{50,70}"),
    _row("1password", "ops_ey", r"ops_ey[\w=-]{40,2000}"),
    _row("age", "age-secret-key-1", r"AGE-SECRET-KEY-1[0-9A-Z]{40,70}"),
    _row("jwt", "eyj", _begins("eyJ") + r"[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}"),
)
