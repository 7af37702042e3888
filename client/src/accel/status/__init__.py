"""How objects are doing: read once with the user's own kubectl, told as a page, a table or JSON.

Reading (`snapshot`) and waiting (`watch`) have effects; everything else is values in, values out.
"""
