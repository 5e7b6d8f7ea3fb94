"""The section `pack` of params.yaml."""

from pipeline.params.network_size import NetworkSize
from pipeline.params.section import Section


class Pack(Section):
    """What the packed frames are like."""

    size: NetworkSize
