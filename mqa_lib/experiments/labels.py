"""What the variants of the recorded comparisons are called where people read of them."""

LABELS = {
    "rtdetr-nano-stock": "RT-DETR, stock",
    "rtdetr-nano-no-encoder": "RT-DETR without AIFI",
    "rtdetr-nano-mobile-mqa": "RT-DETR + Mobile MQA",
    "rtdetr-nano-mqa": "RT-DETR + multi-query attention",
    "rtdetr-nano-mha": "RT-DETR + multi-head attention",
    "rtdetr-nano-convolutions": "RT-DETR + convolutions",
    "rtdetr-nano-mobile-mqa-no-encoder": "RT-DETR without AIFI + Mobile MQA",
    "rtdetr-nano-mqa-encoder": "RT-DETR, multi-query in AIFI",
    "rtdetr-nano-article": "RT-DETR + the article's layer",
    "rtdetr-nano-article-corrected": "RT-DETR + the article's layer, corrected",
    "yolo-nano-stock": "YOLO, no attention",
    "yolo-nano-convolutions": "YOLO + convolutions",
    "yolo-nano-mha": "YOLO + multi-head attention",
    "yolo-nano-mobile-mqa": "YOLO + Mobile MQA",
}
