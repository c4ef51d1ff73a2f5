"""A ranked list of associations (given = answer -> then = answer), and the page of an audit around it."""
