"""Downloads data and weights: from the site, a folder or the hub; resumed and verified."""
