"""The color of each loss, the same in the report's figures and on MLflow's page."""

LOSS_COLORS = {
    "ce": "#333333",
    "dice": "#D55E00",
    "weighted_ce": "#0072B2",
    "ohem_ce": "#56B4E9",
    "focal": "#009E73",
    "log_dice": "#E69F00",
    "jaccard": "#CC79A7",
    "ce_dice": "#7733DD",
    "ce_jaccard": "#663300",
}
"""By loss. The first seven are Okabe and Ito's for color-blind readers, with dark gray for black.

The last two are at least 30 (CIELAB distance) from the others and from each other, with normal
vision and with each of the three color deficiencies (Machado et al. 2009, full severity).
"""
