"""Claims about diversity and quality as commands: suites of prompts × seeds × methods, scored, compared and reported.

suite      what is compared, from a YAML file       assets     making and keeping one asset         images    the row of DDIM images
scorers    the networks that judge                  scores     one asset, one prompt, one method    statistics   intervals, paired
ablation   axes and the boundary where geometry breaks              tables, plots, sheets, page    what people read
"""
